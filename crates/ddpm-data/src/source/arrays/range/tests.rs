use super::*;

fn floats(low: f32, high: f32) -> Result<Range, (String, String)> {
    decide(Range::new(low, high), true)
}

#[test]
fn a_range_that_is_filled_is_read() {
    for (low, high, want) in [
        (0.0, 1.0, UNIT),
        (0.0, 0.0625, UNIT),
        (0.25, 0.75, UNIT),
        (0.0, 0.1, UNIT),
        (-0.0005, 1.0005, UNIT),
        (-1.0, 1.0, SIGNED),
        (-0.9, 0.2, SIGNED),
        (-1.001, 1.001, SIGNED),
        (0.0, 255.0, BYTES),
        (51.0, 204.0, BYTES),
        (-0.2, 255.2, BYTES),
    ] {
        assert_eq!(floats(low, high).unwrap(), want, "{low} {high}");
    }
    for (low, high) in [(0.0, 65535.0), (900.0, 40000.0)] {
        assert_eq!(decide(Range::new(low, high), false).unwrap(), WORDS);
    }
}

#[test]
fn what_fills_none_is_refused_with_what_it_may_be() {
    for (low, high, ranges, settings) in [
        (
            -0.06,
            1.06,
            "may be of [0, 1] or [-1, 1]",
            "\"unit\" or \"signed\"",
        ),
        (
            0.0,
            1.06,
            "may be of [0, 1] or [-1, 1]",
            "\"unit\" or \"signed\"",
        ),
        (
            -0.06,
            1.0,
            "may be of [0, 1] or [-1, 1]",
            "\"unit\" or \"signed\"",
        ),
        (0.0, 0.0039, "may be of [0, 1]", "\"unit\", or [low, high]"),
        (-0.5, 0.5, "may be of [-1, 1]", "\"signed\""),
        (-1.06, 1.06, "may be of [-1, 1]", "\"signed\""),
        (-1.0, 1.06, "may be of [-1, 1]", "\"signed\""),
        (-3.0, 258.0, "may be of [0, 255]", "\"bytes\""),
        (0.0, 258.0, "may be of [0, 255]", "\"bytes\""),
        (-3.0, 255.0, "may be of [0, 255]", "\"bytes\""),
        (0.0, 16.0, "may be of [0, 255]", "\"bytes\""),
        (0.0, 1000.0, "may be of [0, 1023]", "[0, 1023]"),
        (0.0, 4095.0, "may be of [0, 4095]", "[0, 4095]"),
        (0.0, 65535.0, "may be of [0, 65535]", "[0, 65535]"),
        (
            -2.1,
            2.6,
            "fills none of [0, 1], [-1, 1] and [0, 255]",
            "[low, high]",
        ),
        (-1.0, 255.0, "may be of [0, 255]", "\"bytes\""),
        (-2000.0, 3000.0, "fills none of", "[low, high]"),
        (0.0, 1e6, "fills none of", "[low, high]"),
    ] {
        let (what, remedy) = floats(low, high).unwrap_err();
        assert!(
            what.starts_with(&format!("holds floats from {low} to {high}, which ")),
            "{what}"
        );
        assert!(what.contains(ranges), "{low} {high}: {what}");
        let set = format!("set data.range = {settings}");
        assert!(remedy.starts_with(&set), "{low} {high}: {remedy}");
    }
    for (value, ranges) in [
        (0.0, "[0, 1] or [-1, 1] or [0, 255]"),
        (0.5, "[0, 1] or [-1, 1] or [0, 255]"),
        (-1.0, "[-1, 1]"),
        (200.0, "[0, 255]"),
    ] {
        let (what, _) = floats(value, value).unwrap_err();
        assert_eq!(
            what,
            format!("every value is {value}, which may be of {ranges}")
        );
    }
    for (high, ranges) in [
        (1.0, "[0, 1] or [0, 65535]"),
        (255.0, "[0, 255] or [0, 65535]"),
        (4095.0, "[0, 4095] or [0, 65535]"),
        (20000.0, "[0, 65535]"),
    ] {
        let (what, _) = decide(Range::new(0.0, high), false).unwrap_err();
        assert_eq!(
            what,
            format!("holds 16-bit numbers from 0 to {high}, which may be of {ranges}")
        );
    }
}
