//! Runs the faults and prints their table.

fn main() {}
