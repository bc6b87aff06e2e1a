//! The settings: the sum of each component's own Config, from one file, the environment and
//! `--set`.
//!
//! Components never import this page; it imports theirs.
