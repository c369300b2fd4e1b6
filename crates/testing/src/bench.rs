//! Benches: sides measured in turns within one run, medians, ratios; a table for people and `target/bench/NAME.json`.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::environment;

/// One case: what was measured of ours, of a peer, and of the limit that nothing can pass.
#[derive(Clone, Debug)]
pub struct Row {
    /// What was done.
    pub case: String,
    /// Of all three.
    pub unit: &'static str,
    /// One figure a round.
    pub ours: Vec<f64>,
    /// The peer's name, and its figures; none where it is not installed.
    pub peer: (&'static str, Option<Vec<f64>>),
    /// The limit's name, and its figures.
    pub ceiling: (&'static str, Option<Vec<f64>>),
}

impl Row {
    fn json(&self) -> Value {
        let ours = median(&self.ours);
        let side = |figures: &Option<Vec<f64>>| figures.as_deref().map(median);
        let (peer, ceiling) = (side(&self.peer.1), side(&self.ceiling.1));
        json!({
            "case": self.case, "unit": self.unit, "ours": ours,
            "peer": peer, "peer_name": self.peer.0,
            "ceiling": ceiling, "ceiling_name": self.ceiling.0,
            "ratio_peer": peer.map(|peer| ours / peer),
            "ratio_ceiling": ceiling.map(|ceiling| ours / ceiling),
            "rounds": self.ours.len(),
        })
    }
}

/// Writes `target/bench/NAME.json` and returns the table.
pub fn publish(name: &str, rows: &[Row]) -> anyhow::Result<String> {
    let rows: Vec<Value> = rows.iter().map(Row::json).collect();
    let folder = environment::root().join("target/bench");
    std::fs::create_dir_all(&folder)?;
    let report = json!({ "name": name, "rows": rows });
    let text = format!("{}\n", serde_json::to_string_pretty(&report)?);
    std::fs::write(folder.join(format!("{name}.json")), text)?;
    let mut table = format!(
        "{:<20} {:>12} {:>12} {:>7} {:>12} {:>7}  {}\n",
        name, "ours", "peer", "ratio", "ceiling", "ratio", "unit"
    );
    for row in &rows {
        let figure = |key: &str| {
            let shown = row[key].as_f64().map(|figure| {
                let digits = if figure.abs() < 100.0 { 2 } else { 0 };
                format!("{figure:.digits$}")
            });
            shown.unwrap_or_else(|| "-".to_owned())
        };
        writeln!(
            table,
            "{:<20} {:>12} {:>12} {:>7} {:>12} {:>7}  {}",
            row["case"].as_str().unwrap_or_default(),
            figure("ours"),
            figure("peer"),
            figure("ratio_peer"),
            figure("ceiling"),
            figure("ratio_ceiling"),
            row["unit"].as_str().unwrap_or_default(),
        )?;
    }
    Ok(table)
}

/// The middle one, or between the two in the middle.
pub(crate) fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        even if even % 2 == 0 => f64::midpoint(sorted[middle - 1], sorted[middle]),
        _ => sorted[middle],
    }
}
