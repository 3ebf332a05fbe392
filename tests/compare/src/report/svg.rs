//! The picture: for each workload, bars of rows per second relative to the baseline.

use crate::row::Row;
use std::fmt::Write;

const WIDTH: f64 = 900.0;
const LABEL: f64 = 330.0;
const BAR: f64 = 16.0;
/// Where the scale ends. Longer bars are cut off and say so.
const LARGEST: f64 = 2.0;

pub(crate) fn draw(rows: &[Row]) -> String {
    let mut body = String::new();
    let mut y = 30.0;
    let scale = (WIDTH - LABEL - 110.0) / LARGEST;
    for row in rows {
        if row.is_baseline() {
            y += 14.0;
            let title = format!("{}, {} outstanding (1 = {})", row.workload, row.outstanding, row.baseline);
            let _ = writeln!(body, r#"<text x="10" y="{y:.0}" class="title">{}</text>"#, escape(&title));
            y += 8.0;
        }
        // Without a measurement there is no bar, and the value is a dash.
        let ratio = row.throughput_ratio;
        let length = if ratio.is_finite() { ratio.clamp(0.0, LARGEST) * scale } else { 0.0 };
        let value = if ratio.is_finite() { format!("{ratio:.2}") } else { "-".to_owned() };
        let class = if row.system.starts_with("skep") { "ours" } else { "theirs" };
        let middle = y + BAR * 0.75;
        let _ = writeln!(
            body,
            r#"<text x="{:.0}" y="{middle:.0}" text-anchor="end">{}</text><rect x="{LABEL}" y="{y:.0}" width="{length:.1}" height="{:.0}" class="{class}"/><text x="{:.0}" y="{middle:.0}">{value}{}</text>"#,
            LABEL - 8.0,
            escape(&row.system),
            BAR - 3.0,
            LABEL + length + 6.0,
            if length > 0.0 && ratio > LARGEST { " →" } else { "" },
        );
        y += BAR;
    }
    let (one, height) = (LABEL + scale, y + 20.0);
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0}" font-family="sans-serif" font-size="12">
<style>.title{{font-weight:bold}}.ours{{fill:#d98e04}}.theirs{{fill:#8a8f98}}text{{fill:#222;stroke:#fff;stroke-width:3px;paint-order:stroke}}</style>
<rect width="100%" height="100%" fill="#fff"/>
<text x="10" y="20">Rows per second, relative to the first system of each workload (more is better)</text>
<line x1="{one:.1}" x2="{one:.1}" y1="30" y2="{:.0}" stroke="#222" stroke-dasharray="3 3"/>
{body}</svg>
"##,
        height - 10.0
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_break_the_picture() {
        assert_eq!(escape("a<b & c>d"), "a&lt;b &amp; c&gt;d");
    }
}
