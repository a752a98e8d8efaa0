//! The command `messenger-connector`.

fn main() {}
