//! The goodput of each rule, as a picture.

use crate::result::Row;
use plotters::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::path::Path;

/// Draws one small chart for each workload: goodput by load, a line for each rule.
pub(crate) fn draw(rows: &[Row], file: &Path) -> Result<(), Box<dyn Error>> {
    const COLUMNS: usize = 4;
    let workloads: BTreeSet<&str> = rows.iter().map(|row| row.workload.as_str()).collect();
    let rules: BTreeSet<&str> = rows.iter().map(|row| row.rule.as_str()).collect();
    let lines = workloads.len().div_ceil(COLUMNS);
    let size = (340 * u32::try_from(COLUMNS)?, 260 * u32::try_from(lines)?);
    let area = SVGBackend::new(file, size).into_drawing_area();
    area.fill(&WHITE)?;
    let fields = area.split_evenly((lines, COLUMNS));
    for (field, workload) in fields.iter().zip(&workloads) {
        let mut by_rule: BTreeMap<&str, Vec<(f64, f64)>> = BTreeMap::new();
        for row in rows.iter().filter(|row| row.workload == *workload) {
            by_rule.entry(&row.rule).or_default().push((row.load, row.goodput));
        }
        let loads = by_rule.values().flatten().map(|(load, _)| *load);
        let (least, most) =
            loads.fold((f64::MAX, f64::MIN), |(least, most), load| (least.min(load), most.max(load)));
        let mut chart = ChartBuilder::on(field)
            .caption(*workload, ("sans-serif", 16))
            .margin(8)
            .x_label_area_size(24)
            .y_label_area_size(36)
            .build_cartesian_2d(least - 0.05..most + 0.05, 0.0..1.05)?;
        chart.configure_mesh().disable_mesh().x_desc("load").y_desc("goodput").draw()?;
        for (rule, points) in by_rule {
            let at = rules.iter().position(|name| *name == rule).unwrap_or(0);
            let color = Palette99::pick(at).to_rgba();
            chart
                .draw_series(LineSeries::new(points, color.stroke_width(2)))?
                .label(rule)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 12, y)], color.stroke_width(2)));
        }
        chart.configure_series_labels().label_font(("sans-serif", 10)).border_style(BLACK.mix(0.2)).draw()?;
    }
    area.present()?;
    Ok(())
}
