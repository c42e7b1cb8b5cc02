//! Optimised regions: their forms from SSA to machine code, and what they cost.

mod backend;
mod figures;
#[cfg(feature = "llvm")]
mod llvm;
mod stages;

use super::{
    super::{error::CliError, output::Output},
    Arguments, Compiler, Emit, Input, labels,
};
use backend::{Backend, backend};
use figures::Figures;
use kiln::fixture::count_pcs;
use kiln_abi::Pc;
use kiln_ir::{
    Blocks, BuildError, Limits,
    ssa::{self, Analysis, Choice, Function, Region},
};
use revm::primitives::keccak256;
use std::fs;

/// What all forms are made from.
struct Source<'a> {
    arguments: &'a Arguments,
    tier: Compiler,
    code: &'a [u8],
    baked: &'a kiln_ir::Config,
    limits: &'a Limits,
    /// How often each instruction ran, by pc; none if all ran equally often.
    counts: Option<Vec<u64>>,
}

pub(super) fn run(
    arguments: &Arguments,
    tier: Compiler,
    input: &Input,
    baked: &kiln_ir::Config,
    limits: &Limits,
    output: &mut Output,
) -> Result<(), CliError> {
    let code = &input.code;
    let counts = input.calls.as_ref().map(|calls| count_pcs(calls, keccak256(code)));
    let source = Source { arguments, tier, code, baked, limits, counts };
    match arguments.emit {
        Emit::Stats => Ok(Figures::of(&source)?.print(arguments.json, output)?),
        Emit::Object => source.object(output),
        _ => source.list(output),
    }
}

impl Source<'_> {
    /// Prints each region in the form asked for.
    fn list(&self, output: &mut Output) -> Result<(), CliError> {
        let blocks = Blocks::scan(self.code, self.baked, self.limits).map_err(refused)?;
        let analysis =
            Analysis::new(self.code, &blocks, self.baked, self.limits).map_err(refused)?;
        let regions = ssa::choose(&analysis, &|pc| self.count(pc), self.choice());
        let mut backend = backend(self.tier)?;
        let of = regions.len();
        for (number, region) in regions.iter().enumerate() {
            if !self.is_meant(number, region, &analysis, &blocks) {
                continue;
            }
            output.line(heading(number, of, region))?;
            let function = ssa::build(&analysis, region, self.limits);
            let text = match function {
                Ok(function) => self.form(&function, &mut *backend),
                Err(error) => Err(error.to_string()),
            };
            output.line(text.unwrap_or_else(|why| format!("; refused: {why}")).trim_end())?;
            output.line("")?;
        }
        Ok(())
    }

    /// Writes the object of the one region that is asked for.
    fn object(&self, output: &mut Output) -> Result<(), CliError> {
        let file = self.arguments.output.as_ref();
        if file.is_none() && output.is_terminal() {
            let what = "an object is nothing for a terminal: -o FILE, or a pipe";
            return Err(CliError::Usage(what.to_owned()));
        }
        let mut backend = backend(self.tier)?;
        let blocks = Blocks::scan(self.code, self.baked, self.limits).map_err(refused)?;
        let analysis =
            Analysis::new(self.code, &blocks, self.baked, self.limits).map_err(refused)?;
        let regions = ssa::choose(&analysis, &|pc| self.count(pc), self.choice());
        let meant: Vec<_> = (regions.iter().enumerate())
            .filter(|(number, region)| self.is_meant(*number, region, &analysis, &blocks))
            .collect();
        let [(_, region)] = meant[..] else {
            let what = "regions are meant, and an object is of one: --region N, or --pc PC";
            return Err(CliError::Usage(format!("{} {what}", meant.len())));
        };
        let function = ssa::build(&analysis, region, self.limits).map_err(refused)?;
        let bytes = backend.object(self.region(&function, &|pc| labels::at(self.code, pc)));
        let bytes = bytes.map_err(CliError::Engine)?;
        match file {
            Some(path) => {
                fs::write(path, bytes).map_err(|error| CliError::File { path: path.clone(), error })
            }
            None => Ok(output.bytes(&bytes)?),
        }
    }

    /// Every hot block belongs to some region.
    fn choice(&self) -> Choice {
        Choice { hot: self.arguments.hot.unwrap_or(1), regions_max: usize::MAX }
    }

    /// How often the block with this leader ran.
    fn count(&self, pc: Pc) -> u64 {
        match &self.counts {
            Some(counts) => counts.get(pc.0 as usize).copied().unwrap_or(0),
            None => 1,
        }
    }

    /// Whether a region is among those asked for.
    fn is_meant(
        &self,
        number: usize,
        region: &Region,
        analysis: &Analysis<'_>,
        blocks: &Blocks,
    ) -> bool {
        let holds = |pc: Pc| {
            let is_around =
                |leader| blocks.at(leader).is_some_and(|block| (leader..block.end).contains(&pc));
            region.leaders(analysis).any(is_around)
        };
        self.arguments.region.is_none_or(|only| only == number)
            && self.arguments.pc.is_none_or(holds)
    }

    /// A region in the form asked for, or why there is none.
    fn form(&self, function: &Function, backend: &mut dyn Backend) -> Result<String, String> {
        let label = |pc: Pc| labels::at(self.code, pc);
        match self.arguments.emit {
            Emit::Ssa => Ok(function.labelled(&label).to_string()),
            emit => backend.form(self.region(function, &label), emit),
        }
    }

    /// What a compiler takes.
    fn region<'r>(
        &'r self,
        function: &'r Function,
        label: &'r dyn Fn(Pc) -> String,
    ) -> backend::Region<'r> {
        backend::Region { function, limits: self.limits, label }
    }
}

fn heading(number: usize, of: usize, region: &Region) -> String {
    let (head, blocks, instructions) = (region.head(), region.blocks(), region.instructions());
    let loops = if region.loops() { ", loops" } else { "" };
    let cut = if region.is_truncated() { ", cut short" } else { "" };
    format!(
        "; region {number} of {of} at {head}: {blocks} blocks, {instructions} instructions{loops}{cut}"
    )
}

fn refused(error: BuildError) -> CliError {
    CliError::Engine(error.to_string())
}
