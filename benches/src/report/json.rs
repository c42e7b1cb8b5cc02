//! The figures for programs.

use super::{Report, Row};
use crate::{Cost, Tier, Times};
use serde_json::{Value, json};

impl Report {
    /// For programs.
    pub fn json(&self) -> Value {
        json!({
            "startup": {
                "first_ns": self.startup.first_ns,
                "median_ns": self.startup.median_ns,
                "stencils": self.startup.stencils,
                "bytes": self.startup.bytes,
            },
            "worker": self.worker.map(|worker| json!({
                "start_ns": worker.start_ns,
                "setup_ns": worker.setup_ns,
                "job_ns": worker.job_ns,
            })),
            "frames": times(&self.frames),
            "fixtures": self.rows.iter().map(|row| self.row(row)).collect::<Vec<_>>(),
            "total": self.row(&self.total()),
        })
    }

    fn row(&self, row: &Row) -> Value {
        let c = &row.compilation;
        let costs = self.tiers.iter().zip(&row.costs);
        json!({
            "name": row.name,
            "instructions": c.instructions,
            "compile_first_ns_per_instruction": c.per_instruction(c.first_ns),
            "compile_ns_per_instruction": c.per_instruction(c.median_ns),
            "code_bytes_per_instruction": c.per_instruction(c.code_bytes),
            "kept_evm": times(&row.transactions.kept),
            "kept_evm_without_commit": times(&row.transactions.alone),
            "new_evm": times(&row.transactions.built),
            "rounds": row.transactions.rounds,
            "compile": costs.map(|(&tier, cost)| compile(tier, cost)).collect::<Vec<_>>(),
        })
    }
}

fn compile(tier: Tier, cost: &Cost) -> Value {
    json!({
        "tier": tier.name(),
        "first_cpu_ns": cost.first.compile_cpu_ns,
        "cpu_ns": cost.later.compile_cpu_ns,
        "worker_cpu_ns": cost.later.worker_cpu_ns,
        "optimise_cpu_ns": cost.later.optimise_ns,
        "regions": cost.later.optimised_regions,
        "region_instructions": cost.later.optimised_instructions,
        "region_errors": cost.later.region_errors,
        "instructions": cost.later.instructions,
        "code_bytes": cost.later.code_bytes,
        "region_bytes": cost.later.optimised_bytes,
    })
}

fn times(times: &Times) -> Value {
    let tiers = times
        .tiers
        .iter()
        .map(|time| json!({ "tier": time.tier.name(), "ns": time.ns, "ratio": time.ratio }));
    json!({
        "interpreter_ns": times.plain_ns,
        "off_ns": times.off_ns,
        "off_cost": times.off_cost,
        "tiers": tiers.collect::<Vec<_>>(),
    })
}
