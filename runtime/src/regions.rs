//! The optimised regions of one code: how they are chosen and compiled, and what is kept of them.
//!
//! **Owns** [`Regions`], which a program holds so that it can be made anew around them when only its other
//! blocks change. **Callers guarantee** nothing: any bytecode is valid input, and a region that can not be
//! compiled is left to the other tiers. **Never** decides whether a code is worth it: the policy does.

use crate::{compile::CompileError, hooks::Tier, stats::Stats, tier1::Tier1};
use kiln_abi::{CodeObject, Pc, Records};
use kiln_ir::{
    Blocks, Bounds,
    ssa::{self, Analysis, Choice, Function},
};
use kiln_tier0::Link;
use kiln_tier1::worker::{JobRequest, Target};
use std::{cell::Cell, sync::Arc};

/// Optimised regions, by ascending head.
#[derive(Debug)]
pub(crate) struct Regions {
    tier: Tier,
    /// Their machine code.
    objects: Vec<(Pc, CodeObject)>,
    /// Or what the evaluator runs in its place.
    functions: Vec<(Function, Records)>,
    /// Bytecode instructions, copies counted.
    instructions: usize,
}

impl Regions {
    /// Regions that were compiled before: machine code by ascending head.
    pub(crate) fn stored(tier: Tier, objects: Vec<(Pc, CodeObject)>, instructions: usize) -> Self {
        Self { tier, objects, functions: Vec::new(), instructions }
    }

    /// Their machine code, by ascending head; none for the evaluator.
    pub(crate) fn objects(&self) -> &[(Pc, CodeObject)] {
        &self.objects
    }
}

/// What chooses and compiles regions.
pub(crate) struct Optimiser<'a> {
    pub(crate) code: &'a [u8],
    pub(crate) baked: &'a kiln_ir::Config,
    pub(crate) bounds: Bounds<'a>,
    /// How often the block with this leader ran.
    pub(crate) count: &'a dyn Fn(Pc) -> u64,
    pub(crate) choice: Choice,
}

thread_local! {
    /// Taken while the thread compiles, so that a panic drops it with all that is in it.
    static CRANELIFT: Cell<Option<Box<kiln_tier0::region::Compiler>>> = const { Cell::new(None) };
}

impl Optimiser<'_> {
    /// The SSA form of the regions that are chosen, by ascending head.
    fn functions(&self, stats: &mut Stats) -> Result<Vec<Function>, CompileError> {
        let blocks = Blocks::scan(self.code, self.baked, self.bounds)?;
        let analysis = Analysis::new(self.code, &blocks, self.baked, self.bounds)?;
        let mut functions = Vec::new();
        for region in ssa::choose(&analysis, self.count, self.choice) {
            match ssa::build(&analysis, &region, self.bounds) {
                Ok(function) => functions.push(function),
                Err(kiln_ir::BuildError::Limit { .. }) => stats.region_errors += 1,
                Err(error) => return Err(error.into()),
            }
        }
        functions.sort_by_key(|function| function.pc);
        functions.dedup_by_key(|function| function.pc);
        Ok(functions)
    }

    /// Regions for the evaluator.
    pub(crate) fn evaluated(&self, stats: &mut Stats) -> Result<Regions, CompileError> {
        let functions = self.functions(stats)?;
        let instructions = instructions(&functions);
        let functions = functions.into_iter().filter_map(|function| {
            let mut records = Records::default();
            records.pack(&function.exits).then_some((function, records))
        });
        let functions = functions.collect();
        Ok(Regions { tier: Tier::Optimised, objects: Vec::new(), functions, instructions })
    }

    /// Regions compiled by Cranelift.
    pub(crate) fn cranelift(&self, stats: &mut Stats) -> Result<Regions, CompileError> {
        let functions = self.functions(stats)?;
        let mut compiler = match CRANELIFT.take() {
            Some(compiler) => compiler,
            None => {
                let compiler = kiln_tier0::region::Compiler::new();
                Box::new(compiler.map_err(|error| CompileError::Compiler(error.to_string()))?)
            }
        };
        let mut regions = Regions {
            tier: Tier::Optimised,
            objects: Vec::with_capacity(functions.len()),
            functions: Vec::new(),
            instructions: 0,
        };
        for function in &functions {
            match compiler.compile(function, self.bounds) {
                Ok(object) => {
                    regions.objects.push((function.pc, object));
                    regions.instructions += function.instructions as usize;
                }
                Err(kiln_tier0::CompileError::Cancelled(cancelled)) => return Err(cancelled.into()),
                Err(_) => stats.region_errors += 1,
            }
        }
        CRANELIFT.set(Some(compiler));
        Ok(regions)
    }

    /// Regions compiled by LLVM.
    pub(crate) fn tier1(
        &self,
        tier1: &Tier1,
        deadline_ms: u32,
        stats: &mut Stats,
    ) -> Result<Regions, CompileError> {
        let blocks = Blocks::scan(self.code, self.baked, self.bounds)?;
        let counts = blocks.blocks.iter().map(|block| (block.start, (self.count)(block.start)));
        let request = JobRequest {
            bytecode: self.code.to_vec(),
            config: self.baked.clone(),
            limits: *self.bounds.limits,
            counts: counts.filter(|&(_, count)| count > 0).collect(),
            choice: self.choice,
            target: Target::Host,
            deadline_ms,
        };
        let answer = tier1.compile(&request, self.bounds.cancelled, stats)?;
        let head = |object: &CodeObject| object.entries.iter().next().map(|(pc, ..)| pc);
        let mut objects: Vec<_> = answer
            .objects
            .into_iter()
            .filter_map(|object| head(&object).map(|head| (head, object)))
            .collect();
        objects.sort_by_key(|(head, _)| *head);
        objects.dedup_by_key(|(head, _)| *head);
        stats.region_errors += u64::from(answer.left_out);
        let instructions = answer.instructions as usize;
        Ok(Regions { tier: Tier::Tier1, objects, functions: Vec::new(), instructions })
    }
}

fn instructions(functions: &[Function]) -> usize {
    functions.iter().map(|function| function.instructions as usize).sum()
}

impl Regions {
    /// Whether they are what a job of this tier would make; `renew` says that there is more to choose from.
    pub(crate) fn serve(&self, tier: Tier, renew: bool) -> bool {
        self.tier == tier && !renew
    }

    /// Who made them.
    pub(crate) fn tier(&self) -> Tier {
        self.tier
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.objects.len() + self.functions.len()
    }

    /// Bytecode instructions, copies counted.
    pub(crate) fn instructions(&self) -> usize {
        self.instructions
    }

    /// What the evaluator runs.
    pub(crate) fn functions(&self) -> &[(Function, Records)] {
        &self.functions
    }

    /// For fault tests: the first one has so many bytes at least.
    pub(crate) fn pad(&mut self, bytes_min: usize) {
        if let Some((_, object)) = self.objects.first_mut()
            && object.text.len() < bytes_min
        {
            object.text.resize(bytes_min, 0);
        }
    }

    /// The number of the function that is entered at a leader.
    pub(crate) fn function_at(&self, pc: Pc) -> Option<usize> {
        self.functions.binary_search_by_key(&pc, |(function, _)| function.pc).ok()
    }

    /// Bytes of machine code.
    pub(crate) fn text_bytes(&self) -> usize {
        self.objects.iter().map(|(_, object)| object.text.len()).sum()
    }

    /// For the baseline compiler.
    pub(crate) fn links(regions: Option<&Arc<Self>>) -> Vec<Link<'_>> {
        let objects = regions.map_or(&[][..], |regions| &regions.objects);
        objects.iter().map(|(pc, object)| Link { pc: *pc, object }).collect()
    }
}
