//! The figures as a table, and as JSON.

use crate::{Compilation, Startup, Times, Transactions, frames::FRAMES};
use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Value, json};

/// The figures of a fixture.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// The fixture.
    pub name: String,
    /// What compiling its codes costs.
    pub compilation: Compilation,
    /// What its transactions cost.
    pub transactions: Transactions,
}

/// All figures.
#[derive(Clone, Debug)]
pub struct Report {
    /// What an engine costs.
    pub startup: Startup,
    /// What a loop of [`FRAMES`] calls costs.
    pub frames: Times,
    /// By fixture.
    pub rows: Vec<Row>,
}

impl Report {
    /// The sum of all rows.
    pub fn total(&self) -> Row {
        let total = Row { name: "total".into(), ..Row::default() };
        self.rows.iter().fold(total, |sum, row| Row {
            compilation: sum.compilation.plus(row.compilation),
            transactions: sum.transactions.plus(row.transactions),
            name: sum.name,
        })
    }

    /// For people.
    pub fn text(&self) -> String {
        let Startup { first_ns, median_ns, stencils, bytes } = self.startup;
        let ms = |ns: u64| ns as f64 / 1e6;
        let (first, later) = (ms(first_ns), ms(median_ns));
        let total = self.total();
        let [analyse, lower, codegen, publish] =
            total.compilation.phases_ns.map(|ns| total.compilation.per_instruction(ns));
        let frame = |ns: u64| ns as f64 / FRAMES as f64;
        let Times { plain_ns, tier0_ns, off_ns, ratio, off_cost } = self.frames;
        let (plain, tier0, off) = (frame(plain_ns), frame(tier0_ns), frame(off_ns));
        let off_cost = off_cost * 100.0;
        format!(
            "{}\nstart-up: {first:.1} ms the first time, {later:.1} ms later; {stencils} stencils, \
             {bytes} bytes\nns/inst by phase: analyse {analyse:.0}, lower {lower:.0}, codegen \
             {codegen:.0}, publish {publish:.0}\ncall of an empty contract: interpreter \
             {plain:.1} ns, tier0 {tier0:.1} ns ({ratio:.2}x), switched off {off:.1} ns \
             ({off_cost:+.2}%)",
            self.table(&total),
        )
    }

    fn table(&self, total: &Row) -> Table {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING).set_header([
            "fixture",
            "insts",
            "first ns/inst",
            "ns/inst",
            "bytes/inst",
            "interpreter µs",
            "tier0 µs",
            "ratio",
            "off",
            "rounds",
        ]);
        for row in self.rows.iter().chain([total]) {
            let (c, t) = (&row.compilation, &row.transactions.kept);
            let built = &row.transactions.built;
            let us = |ns: u64| format!("{:.2}", ns as f64 / 1e3);
            table.add_row([
                row.name.clone(),
                c.instructions.to_string(),
                format!("{:.0}", c.per_instruction(c.first_ns)),
                format!("{:.0}", c.per_instruction(c.median_ns)),
                format!("{:.1}", c.per_instruction(c.code_bytes)),
                us(t.plain_ns),
                us(t.tier0_ns),
                format!("{:.2}x", t.ratio),
                format!("{:+.1}%", t.off_cost * 100.0),
                format!("{:.2}x", built.ratio),
                format!("{:+.1}%", built.off_cost * 100.0),
                row.transactions.rounds.to_string(),
            ]);
        }
        table.column_iter_mut().skip(1).for_each(|column| {
            column.set_cell_alignment(CellAlignment::Right);
        });
        table
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let row = |row: &Row| {
            let c = &row.compilation;
            json!({
                "name": row.name,
                "instructions": c.instructions,
                "compile_first_ns_per_instruction": c.per_instruction(c.first_ns),
                "compile_ns_per_instruction": c.per_instruction(c.median_ns),
                "code_bytes_per_instruction": c.per_instruction(c.code_bytes),
                "kept_evm": times(&row.transactions.kept),
                "new_evm": times(&row.transactions.built),
                "rounds": row.transactions.rounds,
            })
        };
        json!({
            "startup": {
                "first_ns": self.startup.first_ns,
                "median_ns": self.startup.median_ns,
                "stencils": self.startup.stencils,
                "bytes": self.startup.bytes,
            },
            "frames": times(&self.frames),
            "fixtures": self.rows.iter().map(row).collect::<Vec<_>>(),
            "total": row(&self.total()),
        })
    }
}

fn times(times: &Times) -> Value {
    json!({
        "interpreter_ns": times.plain_ns,
        "tier0_ns": times.tier0_ns,
        "off_ns": times.off_ns,
        "ratio": times.ratio,
        "off_cost": times.off_cost,
    })
}
