//! Figures as people read them.

/// Nanoseconds, in the unit that leaves one to three digits before the point.
pub(crate) fn time(nanoseconds: f64) -> String {
    match nanoseconds {
        ns if ns < 1e3 => format!("{ns:.1} ns"),
        ns if ns < 1e6 => format!("{:.2} µs", ns / 1e3),
        ns if ns < 1e9 => format!("{:.2} ms", ns / 1e6),
        ns => format!("{:.2} s", ns / 1e9),
    }
}

/// A number per second, with the prefix that leaves one to three digits before the point.
pub(crate) fn rate(per_second: f64) -> String {
    match per_second {
        rate if rate < 1e3 => format!("{rate:.1}"),
        rate if rate < 1e6 => format!("{:.2} k", rate / 1e3),
        rate if rate < 1e9 => format!("{:.2} M", rate / 1e6),
        rate => format!("{:.2} G", rate / 1e9),
    }
}

/// A share of a whole.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// With a comma between the thousands.
pub(crate) fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_rates_have_a_unit_that_fits() {
        assert_eq!(
            [0.5, 999.9, 5_500.0, 2.5e6, 61e9].map(time).join(" | "),
            "0.5 ns | 999.9 ns | 5.50 µs | 2.50 ms | 61.00 s"
        );
        assert_eq!([12.0, 2_100.0, 2.1e6, 3e9].map(rate).join(" | "), "12.0 | 2.10 k | 2.10 M | 3.00 G");
    }

    #[test]
    fn thousands_are_apart() {
        assert_eq!(
            [0.0, 999.0, 8_576.0, 1_234_567.0].map(thousands).join(" | "),
            "0 | 999 | 8,576 | 1,234,567"
        );
    }
}
