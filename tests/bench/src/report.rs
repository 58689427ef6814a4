//! The table.

use anyhow::{Context as _, Result};
use std::{fmt::Write as _, io::Write as _, path::Path};

use crate::targets::Standing;

const BEGIN: &str = "<!-- measured: begin -->";
const END: &str = "<!-- measured: end -->";

pub(crate) struct RequestRow {
    pub(crate) name: &'static str,
    pub(crate) standing: Standing,
    pub(crate) per_cpu_second: f64,
    pub(crate) per_second: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) resident_mib: Option<f64>,
    pub(crate) failed: usize,
}

/// Any other table.
pub(crate) struct Table {
    pub(crate) about: String,
    /// The first is text or a number, the others are numbers.
    pub(crate) columns: &'static [&'static str],
    pub(crate) rows: Vec<Vec<String>>,
}

/// Everything measured in one run.
pub(crate) struct Report {
    pub(crate) requests: Vec<RequestRow>,
    pub(crate) tables: Vec<Table>,
    /// What programs of single parts printed.
    pub(crate) parts: String,
    notes: Vec<String>,
}

pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0,
    }
}

impl Report {
    pub(crate) fn new() -> Self {
        Self {
            requests: Vec::new(),
            tables: Vec::new(),
            parts: String::new(),
            notes: vec![machine()],
        }
    }

    pub(crate) fn note(&mut self, text: &str) {
        self.notes.push(text.to_owned());
    }

    pub(crate) fn missing(&mut self, text: &str) {
        self.notes.push(format!("not measured: {text}"));
    }

    pub(crate) fn print(&self) -> Result<()> {
        write!(std::io::stdout().lock(), "{}", self.text())?;
        Ok(())
    }

    /// Puts the table between the markers of a page.
    pub(crate) fn write_into(&self, path: &Path) -> Result<()> {
        let page = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        let (before, rest) = page
            .split_once(BEGIN)
            .context("the page has no begin marker")?;
        let (_, after) = rest.split_once(END).context("the page has no end marker")?;
        std::fs::write(
            path,
            format!("{before}{BEGIN}\n{}{END}{after}", self.text()),
        )
        .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Requests per CPU-second, beside each peer.
    fn requests(&self, text: &mut String) {
        let peers: Vec<&RequestRow> = self
            .requests
            .iter()
            .filter(|row| row.standing == Standing::Peer)
            .collect();
        let _ = write!(
            text,
            "\n| server | requests per CPU-second | per second | p50 ms | p99 ms | resident MiB | failed |"
        );
        for peer in &peers {
            let _ = write!(text, " x {} |", peer.name);
        }
        let _ = write!(
            text,
            "\n|---|--:|--:|--:|--:|--:|--:|{}\n",
            "--:|".repeat(peers.len())
        );
        for row in &self.requests {
            let _ = write!(
                text,
                "| {} | {:.0} | {:.0} | {:.2} | {:.2} | {} | {} |",
                row.name,
                row.per_cpu_second,
                row.per_second,
                row.p50_ms,
                row.p99_ms,
                mib(row.resident_mib),
                row.failed
            );
            for peer in &peers {
                let _ = write!(text, " {:.2} |", row.per_cpu_second / peer.per_cpu_second);
            }
            text.push('\n');
        }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for note in &self.notes {
            let _ = writeln!(text, "- {note}");
        }
        if !self.requests.is_empty() {
            self.requests(&mut text);
        }
        for table in &self.tables {
            let rule = "--:|".repeat(table.columns.len() - 1);
            let columns = table.columns.join(" | ");
            let _ = writeln!(text, "\n{}\n\n| {columns} |\n|---|{rule}", table.about);
            for row in &table.rows {
                let _ = writeln!(text, "| {} |", row.join(" | "));
            }
        }
        if !self.parts.trim().is_empty() {
            let _ = write!(
                text,
                "\nParts, each by its own program; medians of interleaved rounds:\n\n```text\n{}\n```\n",
                self.parts.trim()
            );
        }
        text
    }
}

pub(crate) fn mib(value: Option<f64>) -> String {
    value.map_or_else(|| "?".to_owned(), |value| format!("{value:.0}"))
}

/// What it was measured on.
fn machine() -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown CPU", |(_, name)| name);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    format!("{cores} cores, {model}, Linux {}", kernel.trim())
}
