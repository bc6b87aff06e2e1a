//! The command line: one struct for each command. Must not know: how anything is done.
