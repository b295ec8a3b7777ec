//! Writes the corpus of the fuzzer anew: `cargo run -p phalanx-tests --bin corpus`.

fn main() -> std::io::Result<()> {
    phalanx_tests::fuzz::corpus::write()
}
