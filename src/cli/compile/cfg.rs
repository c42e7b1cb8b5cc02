//! The basic blocks of bytecode and where they go, as text.

use super::{super::output::Output, labels};
use kiln_ir::{Blocks, Ending, Instructions, Module, Target, Terminator};
use std::io;

/// Prints each block: where it is, how it ends, where to, and its instructions.
pub(super) fn print(
    code: &[u8],
    blocks: &Blocks,
    module: &Module,
    output: &mut Output,
) -> io::Result<()> {
    for block in &blocks.blocks {
        let region = module.regions.binary_search_by_key(&block.start, |region| region.pc);
        let successors = region.map_or_else(
            |_| "not compiled".to_owned(),
            |index| successors(module, module.regions[index].terminator, block.ending),
        );
        let jumpdest = if block.is_jumpdest { " jumpdest" } else { "" };
        output.line(format_args!(
            "{}..{} {:?}{jumpdest} -> {successors}",
            block.start, block.end, block.ending
        ))?;
        for instruction in Instructions::new(code, block.start).take(block.instructions as usize) {
            let (pc, name) = (instruction.pc.0, labels::name(&instruction));
            output.line(format_args!("  {pc:6x}  {name}"))?;
        }
    }
    Ok(())
}

/// Where a region goes, in words.
fn successors(module: &Module, terminator: Terminator, ending: Ending) -> String {
    let name = |target| match target {
        Target::Region(region) | Target::Back { region, .. } => {
            module.regions[region as usize].pc.to_string()
        }
        Target::Exit(exit) => {
            let exit = module.exits.exit(exit);
            format!("{:?} {}", exit.kind, exit.pc).to_lowercase()
        }
    };
    match terminator {
        Terminator::Jump(target) => name(target),
        Terminator::Branch { taken, next, .. } => format!("{}, {}", name(taken), name(next)),
        Terminator::JumpDynamic { .. } => "computed".to_owned(),
        Terminator::Exit(_) if matches!(ending, Ending::Return) => "end of the frame".to_owned(),
        Terminator::Exit(exit) => name(Target::Exit(exit)),
    }
}

/// Jumps whose destination is known when the code is compiled, and the others.
pub(super) fn jumps(blocks: &Blocks, module: &Module) -> (usize, usize) {
    let (mut resolved, mut unresolved) = (0, 0);
    for region in &module.regions {
        let Some(block) = blocks.at(region.pc) else { continue };
        if !matches!(block.ending, Ending::Jump | Ending::Jumpi) {
            continue;
        }
        match region.terminator {
            Terminator::Jump(Target::Region(_) | Target::Back { .. })
            | Terminator::Branch { taken: Target::Region(_) | Target::Back { .. }, .. } => {
                resolved += 1;
            }
            _ => unresolved += 1,
        }
    }
    (resolved, unresolved)
}
