//! Command lines of any words: refused with an error, or settings in their ranges. Never a panic.

#[path = "../examples/digits/arguments.rs"]
mod digits;
#[path = "../examples/embed/arguments.rs"]
mod embed;
#[path = "../examples/soak/arguments.rs"]
mod soak;

use clap::Parser;
use proptest::prelude::*;

/// Flags that there are, numbers near and far, and what else a shell may pass.
fn words() -> impl Strategy<Value = Vec<String>> {
    let flags = [
        "--experts",
        "--hidden",
        "--trainers",
        "--callers",
        "--epochs",
        "--seed",
        "--json",
        "--model-dir",
        "--text",
        "--query",
        "--prompt",
        "--top",
        "--bucket",
        "--max-rows",
        "--threads",
        "--check",
        "--minutes",
        "--fault-rate",
        "--help",
        "--",
    ];
    let numbers =
        ["0", "1", "7", "-1", "0.05", "99999999999999999999", "18446744073709551615", "1e300", "NaN", "-inf"];
    let word = prop_oneof![
        4 => prop::sample::select(flags.to_vec()).prop_map(str::to_owned),
        4 => prop::sample::select(numbers.to_vec()).prop_map(str::to_owned),
        1 => ".{0,8}",
    ];
    prop::collection::vec(word, 0..7)
}

fn parse<P: Parser>(words: &[String]) -> Option<P> {
    P::try_parse_from([&["program".to_owned()], words].concat()).ok()
}

proptest! {
    #[test]
    fn a_demo_of_any_words_is_refused_or_in_range(words in words()) {
        if let Some(digits) = parse::<digits::Arguments>(&words) {
            prop_assert!((1..=64).contains(&digits.experts) && (1..=8192).contains(&digits.hidden));
            prop_assert!((1..=64).contains(&digits.trainers) && (1..=64).contains(&digits.callers));
            prop_assert!((1..=10_000).contains(&digits.epochs));
        }
        if let Some(embed) = parse::<embed::Arguments>(&words) {
            prop_assert!((1..=1000).contains(&embed.top) && (1..=512).contains(&embed.bucket));
            let mut counts = [embed.callers, embed.max_rows].into_iter().chain(embed.threads);
            prop_assert!(counts.all(|count| (1..=1024).contains(&count)));
        }
    }

    #[test]
    fn a_soak_of_any_words_is_refused_or_in_range(words in words()) {
        if let Some(soak) = parse::<soak::Arguments>(&words) {
            prop_assert!((0.0..=100_000.0).contains(&soak.minutes) && (0.0..=0.1).contains(&soak.fault_rate));
            prop_assert!((1..=256).contains(&soak.callers));
        }
    }
}
