//! A bar chart as an SVG: panels side by side, one for each quantity, and a line across all of them for each
//! subject. A subject without any bar has a remark instead.

use std::fmt;

pub(crate) struct Chart {
    pub(crate) title: &'static str,
    /// In small letters under the title.
    pub(crate) about: String,
    pub(crate) panels: Vec<Panel>,
    pub(crate) lines: Vec<Line>,
}

/// One quantity, with a scale of its own that begins at 0.
pub(crate) struct Panel {
    pub(crate) title: &'static str,
    pub(crate) hint: &'static str,
}

/// One subject.
pub(crate) struct Line {
    pub(crate) label: String,
    /// One for each panel, where there is a value.
    pub(crate) bars: Vec<Option<Bar>>,
    pub(crate) remark: String,
}

pub(crate) struct Bar {
    pub(crate) value: f64,
    /// The value in letters, with its unit.
    pub(crate) label: String,
}

// In pixels.
const MARGIN: f64 = 24.0;
const LABELS: f64 = 110.0;
const PANEL: f64 = 270.0;
/// The longest bar; the rest of its panel is for the value.
const LONGEST: f64 = 180.0;
const HEAD: f64 = 124.0;
const LINE: f64 = 36.0;
const BAR: f64 = 18.0;
/// What a letter of 12 pixels takes at most, on average.
const LETTER: f64 = 6.6;

/// Colours that differ in brightness too, one for each panel.
const COLOURS: [&str; 3] = ["#1f6f8b", "#d98324", "#5c7f3b"];

impl fmt::Display for Chart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |count: usize| u16::try_from(count).map_or(f64::INFINITY, f64::from);
        let width = 2.0 * MARGIN + LABELS + PANEL * count(self.panels.len());
        let height = HEAD + LINE * count(self.lines.len()) + MARGIN;
        let left = |panel: usize| MARGIN + LABELS + PANEL * count(panel);
        let middle = |line: usize| HEAD + LINE * (count(line) + 0.5);
        writeln!(
            f,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} \
             {height}\" font-family=\"sans-serif\" font-size=\"12\" fill=\"#222\">\n<rect width=\"100%\" \
             height=\"100%\" fill=\"#fff\"/>"
        )?;
        text(f, MARGIN, 34.0, "font-size=\"18\" font-weight=\"bold\"", self.title)?;
        let room = width - 2.0 * MARGIN;
        text(f, MARGIN, 56.0, "fill=\"#666\"", &shortened(&self.about, room))?;
        for (at, panel) in self.panels.iter().enumerate() {
            text(f, left(at), 92.0, "font-weight=\"bold\"", panel.title)?;
            text(f, left(at), 109.0, "fill=\"#666\"", panel.hint)?;
        }
        for (at, line) in self.lines.iter().enumerate() {
            let y = middle(at);
            let rule = y - LINE / 2.0;
            writeln!(f, "<path d=\"M{MARGIN} {rule}H{}\" stroke=\"#ddd\"/>", width - MARGIN)?;
            text(f, MARGIN, y + 4.0, "font-weight=\"bold\"", &line.label)?;
            if line.bars.iter().all(Option::is_none) {
                let remark = shortened(&line.remark, room - LABELS);
                text(f, left(0), y + 4.0, "fill=\"#666\" font-style=\"italic\"", &remark)?;
                continue;
            }
            for (panel, bar) in line.bars.iter().enumerate() {
                let Some(bar) = bar else {
                    text(f, left(panel), y + 4.0, "fill=\"#666\"", "no figure")?;
                    continue;
                };
                let (x, top, long) = (left(panel), y - BAR / 2.0, self.length(panel, bar.value));
                let colour = COLOURS[panel % COLOURS.len()];
                writeln!(
                    f,
                    "<rect x=\"{x}\" y=\"{top}\" width=\"{long:.1}\" height=\"{BAR}\" rx=\"2\" fill=\"{colour}\"/>"
                )?;
                text(f, x + long + 6.0, y + 4.0, "", &bar.label)?;
            }
        }
        writeln!(f, "</svg>")
    }
}

impl Chart {
    /// A bar's length in its panel, whose largest value is as long as there is room.
    fn length(&self, panel: usize, value: f64) -> f64 {
        let values = self.lines.iter().filter_map(|line| line.bars.get(panel)?.as_ref());
        let largest = values.map(|bar| bar.value).fold(0.0, f64::max);
        if largest > 0.0 { LONGEST * value / largest } else { 0.0 }
    }
}

fn text(f: &mut fmt::Formatter<'_>, x: f64, y: f64, how: &str, words: &str) -> fmt::Result {
    let words = words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    writeln!(f, "<text x=\"{x:.1}\" y=\"{y:.1}\" {how}>{words}</text>")
}

/// As many letters as there is room for.
fn shortened(words: &str, room: f64) -> String {
    let mut kept = String::new();
    let mut taken = LETTER;
    for letter in words.chars() {
        taken += LETTER;
        if taken > room {
            return kept + "…";
        }
        kept.push(letter);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(bars: Vec<Vec<Option<(f64, &str)>>>) -> Chart {
        let bar = |bar: Option<(f64, &str)>| bar.map(|(value, label)| Bar { value, label: label.to_owned() });
        let lines = bars.into_iter().map(|bars| Line {
            label: "a subject".to_owned(),
            bars: bars.into_iter().map(bar).collect(),
            remark: "no <figures> & why".to_owned(),
        });
        let panel = |title| Panel { title, hint: "less is more" };
        Chart {
            title: "title",
            about: "about".to_owned(),
            panels: vec![panel("first"), panel("second")],
            lines: lines.collect(),
        }
    }

    /// The widths of all bars, in their order.
    fn bars(svg: &str) -> Vec<&str> {
        let bars = svg.lines().filter(|line| line.contains("rx="));
        bars.filter_map(|bar| bar.split_once("width=\"")?.1.split_once('"').map(|(width, _)| width)).collect()
    }

    #[test]
    fn each_panel_has_a_scale_of_its_own() {
        let chart = chart(vec![
            vec![Some((10.0, "10 s")), Some((0.5, "50 %"))],
            vec![Some((5.0, "5 s")), Some((0.25, "25 %"))],
            vec![Some((2.5, "2.5 s")), None],
        ]);
        let svg = chart.to_string();
        assert_eq!(bars(&svg), ["180.0", "180.0", "90.0", "90.0", "45.0"]);
        assert!(svg.contains(">2.5 s</text>") && svg.contains(">no figure</text>"), "{svg}");
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"), "{svg}");
    }

    #[test]
    fn a_subject_without_figures_has_its_remark() {
        let svg = chart(vec![vec![None, None], vec![Some((0.0, "0 s")), None]]).to_string();
        assert!(svg.contains(">no &lt;figures&gt; &amp; why</text>"), "{svg}");
        assert_eq!(bars(&svg), ["0.0"]);
    }

    #[test]
    fn what_is_too_long_is_cut() {
        assert_eq!(shortened("four", 5.0 * LETTER), "four");
        assert_eq!(shortened("fourteen", 5.0 * LETTER), "four…");
    }
}
