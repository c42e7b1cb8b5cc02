//! What code is made from, through LLVM.
//!
//! **Owns** the debug information that carries the numbers of a function's parts ([`Origin`]) from LLVM's IR to
//! the line table of its object, and back. **Callers guarantee** an object of this crate's compiler. **Never** is
//! used for code that is to run: it takes time and changes nothing of the code, which a test checks.

use super::CompileError;
use crate::loader::LoadError;
use gimli::{ColumnType, DebugLine, DebugLineOffset, LittleEndian};
use inkwell::{
    builder::Builder,
    context::Context,
    debug_info::{
        AsDIScope, DIFlags, DIFlagsConstants, DIScope, DWARFEmissionKind, DWARFSourceLanguage,
        DebugInfoBuilder, debug_metadata_version,
    },
    module::{FlagBehavior, Module},
    values::FunctionValue,
};
use kiln_ir::ssa::Origin;
use object::{Object, ObjectSection, read::elf::ElfFile64};
use std::ops::Range;

/// Of the format of line tables; since version 5 they refer to other sections.
const DWARF: u64 = 4;
/// Bits of an origin's number that are a line; those above are a column. Both count from 1.
const LINE_BITS: u32 = 30;

/// The line and the column that stand for a part.
fn place(origin: Origin) -> Option<(u32, u32)> {
    let number = origin.number()?;
    Some(((number & ((1 << LINE_BITS) - 1)) + 1, (number >> LINE_BITS) + 1))
}

/// The part that a line and a column stand for.
pub(super) fn part(line: u64, column: u64) -> Option<Origin> {
    let line = u32::try_from(line.checked_sub(1)?).ok().filter(|line| line >> LINE_BITS == 0)?;
    let column = u32::try_from(column.checked_sub(1)?).ok().filter(|column| *column < 4)?;
    Some(Origin::of(column << LINE_BITS | line)).filter(|origin| *origin != Origin::Generator)
}

/// Gives instructions the parts they are made from.
#[derive(Debug)]
pub(super) struct Locations<'c> {
    context: &'c Context,
    /// Finishes the debug information when it is dropped.
    info: DebugInfoBuilder<'c>,
    scope: DIScope<'c>,
}

impl<'c> Locations<'c> {
    pub(super) fn new(
        context: &'c Context,
        module: &Module<'c>,
        function: FunctionValue<'c>,
    ) -> Self {
        for (name, value) in
            [("Debug Info Version", debug_metadata_version().into()), ("Dwarf Version", DWARF)]
        {
            let value = context.i32_type().const_int(value, false);
            module.add_basic_value_flag(name, FlagBehavior::Warning, value);
        }
        let (info, unit) = module.create_debug_info_builder(
            true,
            DWARFSourceLanguage::C,
            "region",
            "",
            "kiln",
            true,
            "",
            0,
            "",
            DWARFEmissionKind::LineTablesOnly,
            0,
            false,
            false,
            "",
            "",
        );
        let file = unit.get_file();
        let none = info.create_subroutine_type(file, None, &[], DIFlags::PUBLIC);
        let (unit, zero) = (unit.as_debug_info_scope(), DIFlags::ZERO);
        let body =
            info.create_function(unit, "body", None, file, 0, none, false, true, 0, zero, true);
        function.set_subprogram(body);
        Self { context, info, scope: body.as_debug_info_scope() }
    }

    /// What is built from here on is made from this.
    pub(super) fn set(&self, builder: &Builder<'c>, origin: Origin) {
        match place(origin) {
            Some((line, column)) => {
                let location =
                    self.info.create_debug_location(self.context, line, column, self.scope, None);
                builder.set_current_debug_location(location);
            }
            None => builder.unset_current_debug_location(),
        }
    }
}

/// The parts of the code of an object, as its line table has them: ascending ranges.
pub(super) fn known(object: &[u8]) -> Result<Vec<(Range<usize>, Origin)>, CompileError> {
    let unreadable = |error: gimli::Error| LoadError::Unreadable(error.to_string());
    let file = ElfFile64::<object::Endianness>::parse(object).map_err(LoadError::from)?;
    let mut known = Vec::new();
    let Some(section) = file.section_by_name(".debug_line") else { return Ok(known) };
    // Addresses are those of the one code section, which begins at 0: relocations would add nothing.
    let table = DebugLine::new(section.data().map_err(LoadError::from)?, LittleEndian);
    let program = table.program(DebugLineOffset(0), 8, None, None).map_err(unreadable)?;
    let mut rows = program.rows();
    let mut last: Option<(usize, Origin)> = None;
    while let Some((_, row)) = rows.next_row().map_err(unreadable)? {
        let at = row.address() as usize;
        if let Some((start, origin)) = last.take()
            && start < at
        {
            known.push((start..at, origin));
        }
        if !row.end_sequence()
            && let (Some(line), ColumnType::Column(column)) = (row.line(), row.column())
        {
            last = part(line.get(), column.get()).map(|origin| (at, origin));
        }
    }
    Ok(known)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_abi::Pc;
    use kiln_ir::ssa::BlockId;

    #[test]
    fn lines_and_columns_come_back() {
        for origin in [
            Origin::Head,
            Origin::Exits,
            Origin::Inst(Pc(0)),
            Origin::Inst(Pc(0x1f_ffff)),
            Origin::Charge(BlockId(0)),
            Origin::End(BlockId(63)),
        ] {
            let (line, column) = place(origin).expect("it has a number");
            assert_eq!(part(line.into(), column.into()), Some(origin));
        }
        assert_eq!(place(Origin::Generator), None);
        assert_eq!(part(0, 1), None);
        assert_eq!(part(1, 0), None);
        assert_eq!(part(u64::MAX, 1), None);
        assert_eq!(part(1, 5), None);
    }
}
