//! Optimised regions: their forms from SSA to machine code, and what they cost.

mod figures;
mod stages;

use super::{
    super::{error::CliError, output::Output},
    Arguments, Emit, Input, labels,
};
use figures::Figures;
use kiln::fixture::count_pcs;
use kiln_abi::Pc;
use kiln_ir::{
    Blocks, BuildError, Limits,
    ssa::{self, Analysis, Choice, Region},
};
use kiln_tier0::region::Compiler;
use revm::primitives::keccak256;

/// What all forms are made from.
struct Source<'a> {
    arguments: &'a Arguments,
    code: &'a [u8],
    baked: &'a kiln_ir::Config,
    limits: &'a Limits,
    /// How often each instruction ran, by pc; none if all ran equally often.
    counts: Option<Vec<u64>>,
}

pub(super) fn run(
    arguments: &Arguments,
    input: &Input,
    baked: &kiln_ir::Config,
    limits: &Limits,
    output: &mut Output,
) -> Result<(), CliError> {
    let code = &input.code;
    let counts = input.calls.as_ref().map(|calls| count_pcs(calls, keccak256(code)));
    let source = Source { arguments, code, baked, limits, counts };
    match arguments.emit {
        Emit::Stats => Ok(Figures::of(&source)?.print(arguments.json, output)?),
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
        let mut compiler = compiler()?;
        let of = regions.len();
        for (number, region) in regions.iter().enumerate() {
            if !self.is_meant(number, region, &analysis, &blocks) {
                continue;
            }
            output.line(heading(number, of, region))?;
            let text = self.form(&analysis, region, &mut compiler);
            output.line(text.unwrap_or_else(|why| format!("; refused: {why}")).trim_end())?;
            output.line("")?;
        }
        Ok(())
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
    fn form(
        &self,
        analysis: &Analysis<'_>,
        region: &Region,
        compiler: &mut Compiler,
    ) -> Result<String, String> {
        let function =
            ssa::build(analysis, region, self.limits).map_err(|error| error.to_string())?;
        let label = |pc: Pc| labels::at(self.code, pc);
        match self.arguments.emit {
            Emit::Clif => compiler.clif(&function, &label).map_err(|error| error.to_string()),
            Emit::Asm => compiler
                .disassemble(&function, self.limits, &label)
                .map_err(|error| error.to_string()),
            // The command line has nothing else for optimised regions.
            _ => Ok(function.labelled(&label).to_string()),
        }
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

fn compiler() -> Result<Compiler, CliError> {
    Compiler::new().map_err(|error| CliError::Engine(error.to_string()))
}

fn refused(error: BuildError) -> CliError {
    CliError::Engine(error.to_string())
}
