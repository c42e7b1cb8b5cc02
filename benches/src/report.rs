//! The figures as tables, and as JSON.

mod json;

use crate::{
    Compilation, Cost, Startup, Tier, Times, Transactions, WorkerStart, frames::FRAMES, goals,
};
use comfy_table::{CellAlignment, Table, presets};
use std::fmt::Write;

/// The figures of a fixture.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// The fixture.
    pub name: String,
    /// What compiling its codes whole costs, by tier 0.
    pub compilation: Compilation,
    /// What its transactions cost.
    pub transactions: Transactions,
    /// What compiling that costs, by tier: those of the transactions.
    pub costs: Vec<Cost>,
}

/// All figures.
#[derive(Clone, Debug)]
pub struct Report {
    /// What an engine costs.
    pub startup: Startup,
    /// What a worker costs.
    pub worker: Option<WorkerStart>,
    /// What a loop of [`FRAMES`] calls costs.
    pub frames: Times,
    /// What was measured.
    pub tiers: Vec<Tier>,
    /// By fixture.
    pub rows: Vec<Row>,
}

impl Report {
    /// The sum of all rows.
    pub fn total(&self) -> Row {
        let mut rows = self.rows.iter();
        let Some(first) = rows.next() else { return Row::default() };
        let total = Row { name: "total".into(), ..first.clone() };
        rows.fold(total, |sum, row| Row {
            compilation: sum.compilation.plus(row.compilation),
            transactions: sum.transactions.plus(&row.transactions),
            costs: sum.costs.iter().zip(&row.costs).map(|(a, &b)| a.plus(b)).collect(),
            name: sum.name,
        })
    }

    /// For people.
    pub fn text(&self) -> String {
        let total = self.total();
        let mut text = format!("{}\n{}\n", self.fixtures(&total), self.fixed(&total));
        for (at, &tier) in self.tiers.iter().enumerate() {
            // A string takes everything.
            let _ = write!(text, "\n{}\n{}\n", heading(tier), self.tier(at, tier, &total));
        }
        text
    }

    /// What does not belong to a fixture.
    fn fixed(&self, total: &Row) -> String {
        let Startup { first_ns, median_ns, stencils, bytes } = self.startup;
        let (first, later) = (ms(first_ns), ms(median_ns));
        let [analyse, lower, codegen, publish] =
            total.compilation.phases_ns.map(|ns| total.compilation.per_instruction(ns));
        let frame = |ns: u64| ns as f64 / FRAMES as f64;
        let Times { plain_ns, off_ns, off_cost, .. } = self.frames;
        let (plain, off, off_cost) = (frame(plain_ns), frame(off_ns), off_cost * 100.0);
        let tier0 = self.frames.of(Tier::Tier0).map_or_else(String::new, |time| {
            format!("tier0 {:.1} ns ({:.2}x), ", frame(time.ns), time.ratio)
        });
        let worker = self.worker.map_or_else(String::new, |worker| {
            let WorkerStart { start_ns, setup_ns, job_ns } = worker;
            let [start, setup, job] = [start_ns, setup_ns, job_ns].map(ms);
            format!(
                "\na tier 1 worker: process {start:.1} ms of CPU, LLVM's set-up {setup:.1}, a job \
                 for a small program {job:.1}"
            )
        });
        format!(
            "start-up: {first:.1} ms the first time, {later:.1} ms later; {stencils} stencils, \
             {bytes} bytes\ntier0, ns/inst by phase: analyse {analyse:.0}, lower {lower:.0}, \
             codegen {codegen:.0}, publish {publish:.0}\ncall of an empty contract: interpreter \
             {plain:.1} ns, {tier0}switched off {off:.1} ns ({off_cost:+.2}%){worker}"
        )
    }

    /// Compiling whole contracts by tier 0, plain revm, and kiln switched off.
    fn fixtures(&self, total: &Row) -> Table {
        let mut table = table([
            "fixture",
            "insts",
            "first ns/inst",
            "ns/inst",
            "bytes/inst",
            "interpreter µs",
            "off kept",
            "off new",
            "rounds",
        ]);
        for row in self.rows.iter().chain([total]) {
            let (c, t) = (&row.compilation, &row.transactions);
            table.add_row([
                row.name.clone(),
                c.instructions.to_string(),
                format!("{:.0}", c.per_instruction(c.first_ns)),
                format!("{:.0}", c.per_instruction(c.median_ns)),
                format!("{:.1}", c.per_instruction(c.code_bytes)),
                us(t.kept.plain_ns),
                format!("{:+.1}%", t.kept.off_cost * 100.0),
                format!("{:+.1}%", t.built.off_cost * 100.0),
                t.rounds.to_string(),
            ]);
        }
        right(table)
    }

    /// One tier, next to its goals.
    fn tier(&self, at: usize, tier: Tier, total: &Row) -> Table {
        let mut table = table([
            "fixture",
            "µs",
            "kept",
            "alone",
            "new",
            "goal",
            "compile ms, first",
            "repeated",
            "goal",
            "regions",
            "µs/inst",
            "code bytes",
            "of regions",
            "LLVM-only JIT",
        ]);
        for row in self.rows.iter().chain([total]) {
            let (Some(kept), Some(alone), Some(built), Some(cost)) = (
                row.transactions.kept.tiers.get(at),
                row.transactions.alone.tiers.get(at),
                row.transactions.built.tiers.get(at),
                row.costs.get(at),
            ) else {
                continue;
            };
            let limit = goals::compile_ms(tier, &row.name);
            table.add_row([
                row.name.clone(),
                us(kept.ns),
                format!("{:.2}x", kept.ratio),
                format!("{:.2}x", alone.ratio),
                format!("{:.2}x", built.ratio),
                goal(tier, row),
                format!("{:.2}", ms(cost.first.compile_cpu_ns)),
                format!("{:.2}", ms(cost.later.compile_cpu_ns)),
                limit.map_or_else(String::new, |ms| format!("{ms:.1}")),
                cost.later.optimised_regions.to_string(),
                format!("{:.1}", cost.optimise_ns_per_instruction() / 1e3),
                cost.later.code_bytes.to_string(),
                cost.later.optimised_bytes.to_string(),
                goals::other_bytes(&row.name).map_or_else(String::new, |bytes| bytes.to_string()),
            ]);
        }
        right(table)
    }
}

fn heading(tier: Tier) -> String {
    let name = tier.name();
    match tier {
        Tier::Tier0 => format!("{name}, whole contracts:"),
        Tier::Optimised => {
            let us = goals::OPTIMISED_US_PER_INSTRUCTION;
            format!("{name}, what a recorded run came through; goal {us:.0} µs/inst:")
        }
        Tier::Tier1 => {
            format!("{name}, what a recorded run came through; CPU time of workers included:")
        }
    }
}

/// The ratio that is wanted; where there is no figure, that of tier 0.
fn goal(tier: Tier, row: &Row) -> String {
    let Some(ratio) = goals::ratio(tier, &row.name) else {
        return match row.transactions.kept.of(Tier::Tier0) {
            Some(time) if tier != Tier::Tier0 => format!("tier0 {:.2}", time.ratio),
            _ => String::new(),
        };
    };
    format!("{ratio:.2}")
}

fn ms(ns: u64) -> f64 {
    ns as f64 / 1e6
}

fn us(ns: u64) -> String {
    format!("{:.2}", ns as f64 / 1e3)
}

fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(header);
    table
}

/// Figures to the right.
fn right(mut table: Table) -> Table {
    table.column_iter_mut().skip(1).for_each(|column| {
        column.set_cell_alignment(CellAlignment::Right);
    });
    table
}
