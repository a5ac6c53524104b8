//! crd-gen
fn main() {}
