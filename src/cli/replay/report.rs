//! The results of a replay, as a table and as JSON.

use super::{
    super::{
        output::{Output, duration, grouped, loaded, table},
        tier::Tier,
    },
    measure::Plan,
};
use comfy_table::{Cell, Table};
use serde::Serialize;
use std::io;

/// Mismatches of a fixture that the table's text shows; JSON has them all.
const MISMATCHES_SHOWN: usize = 10;

/// The results of a fixture, or of all of them. Times are medians; 0 is "not measured".
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Row {
    /// The fixture's name.
    pub(super) name: String,
    /// What it was made from.
    pub(super) kind: String,
    /// Whether there is no mismatch.
    pub(super) ok: bool,
    /// What differs from what is expected.
    pub(super) mismatches: Vec<String>,
    /// Gas used.
    pub(super) gas: u64,
    /// Transactions.
    pub(super) txs: usize,
    /// Time of plain revm.
    pub(super) interpreter_ns: u64,
    /// Time of the chosen tier.
    pub(super) tier_ns: u64,
    /// `interpreter_ns / tier_ns`.
    pub(super) ratio: f64,
    /// Share of the instructions, initcode aside, that ran in compiled code; 1 if there are none.
    pub(super) native_instruction_share: f64,
    /// CPU time of compilation.
    pub(super) compile_cpu_ns: u64,
    /// Programs compiled.
    pub(super) programs: u64,
    /// Regions compiled.
    pub(super) regions: u64,
    /// Programs loaded from the store.
    pub(super) loaded: u64,
    /// Bytes of machine code, compiled or loaded.
    pub(super) code_bytes: u64,
    #[serde(skip)]
    pub(super) native_instructions: u64,
    #[serde(skip)]
    pub(super) contract_instructions: u64,
}

impl Row {
    /// The share of `native` in `contract` instructions.
    pub(super) fn share(native: u64, contract: u64) -> f64 {
        if contract == 0 { 1.0 } else { native as f64 / contract as f64 }
    }
}

/// The results of all fixtures.
#[derive(Debug, Default)]
pub(super) struct Report {
    rows: Vec<Row>,
    stats: Vec<String>,
}

#[derive(Serialize)]
struct Json<'a> {
    fixtures: &'a [Row],
    total: &'a Row,
}

impl Report {
    pub(super) fn add(&mut self, row: Row, stats: String) {
        self.rows.push(row);
        self.stats.push(stats);
    }

    /// The sum of all rows.
    pub(super) fn total(&self) -> Row {
        let mut total = Row { name: "total".into(), kind: "total".into(), ..Row::default() };
        for row in &self.rows {
            let named = row.mismatches.iter().map(|text| format!("{}: {text}", row.name));
            total.mismatches.extend(named);
            total.gas += row.gas;
            total.txs += row.txs;
            total.interpreter_ns += row.interpreter_ns;
            total.tier_ns += row.tier_ns;
            total.compile_cpu_ns += row.compile_cpu_ns;
            total.programs += row.programs;
            total.regions += row.regions;
            total.loaded += row.loaded;
            total.code_bytes += row.code_bytes;
            total.native_instructions += row.native_instructions;
            total.contract_instructions += row.contract_instructions;
        }
        total.ok = total.mismatches.is_empty();
        if total.tier_ns != 0 {
            total.ratio = total.interpreter_ns as f64 / total.tier_ns as f64;
        }
        let Row { native_instructions, contract_instructions, .. } = total;
        total.native_instruction_share = Row::share(native_instructions, contract_instructions);
        total
    }

    pub(super) fn json(&self, total: &Row) -> String {
        // All fields are numbers, strings and lists of them, which always serialize.
        serde_json::to_string_pretty(&Json { fixtures: &self.rows, total }).unwrap_or_default()
    }

    pub(super) fn print(
        &self,
        total: &Row,
        plan: &Plan,
        stats: bool,
        output: &mut Output,
    ) -> io::Result<()> {
        output.line(self.table(total, plan, output.is_terminal()))?;
        if stats {
            for (row, text) in self.rows.iter().zip(&self.stats) {
                output.line(format_args!("{}:\n{text}", row.name))?;
            }
        }
        for row in self.rows.iter().filter(|row| !row.ok) {
            for mismatch in row.mismatches.iter().take(MISMATCHES_SHOWN) {
                output.line(format_args!("mismatch: {}: {mismatch}", row.name))?;
            }
            let more = row.mismatches.len().saturating_sub(MISMATCHES_SHOWN);
            if more != 0 {
                output.line(format_args!("mismatch: {}: and {more} more", row.name))?;
            }
        }
        if plan.choice.has_store() {
            output.line(loaded(total.loaded))?;
        }
        let bad = self.rows.iter().filter(|row| !row.ok).count();
        output.line(format_args!("{} fixtures, {bad} with mismatches", self.rows.len()))
    }

    fn table(&self, total: &Row, plan: &Plan, is_terminal: bool) -> Table {
        let mut header = vec!["fixture", "txs", "gas"];
        let tier = plan.choice.tier.to_string();
        header.extend(plan.compare.then_some("interpreter"));
        header.push(if plan.compare && plan.choice.tier == Tier::Interpreter {
            "again"
        } else {
            &tier
        });
        header.extend(plan.compare.then_some("ratio"));
        if plan.choice.tier != Tier::Interpreter {
            header.extend(["native", "compile"]);
            header.extend(plan.choice.has_store().then_some("loaded"));
            header.push("code bytes");
        }
        header.push("result");
        let mut table = table(is_terminal, &header, 1..header.len() - 1);
        self.rows.iter().chain([total]).for_each(|row| {
            table.add_row(row.cells(plan));
        });
        table
    }
}

impl Row {
    fn cells(&self, plan: &Plan) -> Vec<Cell> {
        let mut cells = vec![self.name.clone(), grouped(self.txs as u64), grouped(self.gas)];
        cells.extend(plan.compare.then(|| duration(self.interpreter_ns)));
        cells.push(duration(self.tier_ns));
        cells.extend(plan.compare.then(|| format!("{:.2}x", self.ratio)));
        if plan.choice.tier != Tier::Interpreter {
            cells.push(format!("{:.2}%", self.native_instruction_share * 100.0));
            cells.push(duration(self.compile_cpu_ns));
            cells.extend(plan.choice.has_store().then(|| grouped(self.loaded)));
            cells.push(grouped(self.code_bytes));
        }
        cells.push(match self.mismatches.len() {
            0 => "ok".into(),
            1 => "1 mismatch".into(),
            len => format!("{len} mismatches"),
        });
        cells.into_iter().map(Cell::new).collect()
    }
}
