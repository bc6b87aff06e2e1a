//! Parses the arguments, runs one command and maps its error to an exit code.

fn main() {}
