//! Durations as people write them: `250ms`, `10s`, `5m`, `2h`.

/// Milliseconds of a duration.
///
/// # Errors
/// One sentence that names the text.
pub fn parse_ms(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is not a duration; write a whole number and `ms`, `s`, `m` or `h`, as in `10s`");
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 = text[..digits].parse().map_err(|_| wrong())?;
    let unit_ms = match text[digits..].trim_start() {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(wrong()),
    };
    number.checked_mul(unit_ms).ok_or_else(wrong)
}

/// The shortest text that [`parse_ms`] reads as so many milliseconds.
#[must_use]
pub fn text(duration_ms: u64) -> String {
    let units = [(3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    let fits = units.into_iter().find(|(unit_ms, _)| duration_ms > 0 && duration_ms.is_multiple_of(*unit_ms));
    fits.map_or_else(|| format!("{duration_ms}ms"), |(unit_ms, unit)| format!("{}{unit}", duration_ms / unit_ms))
}

#[cfg(test)]
mod tests {
    use super::{parse_ms, text};

    #[test]
    fn a_duration_needs_a_whole_number_and_a_unit() {
        assert_eq!(parse_ms("250ms"), Ok(250));
        assert_eq!(parse_ms("10 s"), Ok(10_000));
        assert_eq!(parse_ms("2h"), Ok(7_200_000));
        for duration_ms in [0, 1, 250, 1_000, 90_000, 60_000, 7_200_000] {
            assert_eq!(parse_ms(&text(duration_ms)), Ok(duration_ms));
        }
        assert_eq!((text(90_000), text(120_000)), ("90s".to_owned(), "2m".to_owned()));
        for wrong in ["", "10", "s", "-1s", "1.5s", "10 sec", "99999999999999999999s", "18446744073709551615h"] {
            assert!(parse_ms(wrong).is_err(), "{wrong}");
        }
    }
}
