//! Text tables.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

/// Aligns columns, to the right where `right` says so, and separates them by two spaces.
pub(crate) fn table<const N: usize>(lines: &[[String; N]], right: &[bool; N]) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.add_rows(lines);
    for (column, right) in table.column_iter_mut().zip(right) {
        column.set_padding((0, 2));
        column.set_cell_alignment(if *right { CellAlignment::Right } else { CellAlignment::Left });
    }
    table.trim_fmt() + "\n"
}
