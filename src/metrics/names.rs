//! Every metric and label name, once, with its help text. The README's table is checked against
//! this file.
