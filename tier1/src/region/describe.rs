//! Listings of what regions become.
//!
//! **Owns** the text that `kiln compile --tier tier1 --emit llvm` prints of a region. **Callers guarantee**
//! labels: bytecode is not known here. **Never** is used while compiling.

use super::{CompileError, Compiler, origin::part};
use kiln_abi::Pc;
use kiln_ir::{
    Bounds,
    ssa::{self, Origin},
};
use std::collections::HashMap;
use std::fmt::Write;

/// Says what the bytecode instruction at a pc is.
pub type Label<'a> = &'a dyn Fn(Pc) -> String;

impl Compiler {
    /// The LLVM IR of a region as it is built, as text that LLVM reads. Where what instructions are made from
    /// changes stands `; ` and the label.
    ///
    /// # Errors
    /// As [`Self::compile`].
    pub fn labelled_llvm_ir<'b>(
        &mut self,
        function: &ssa::Function,
        bounds: impl Into<Bounds<'b>>,
        label: Label<'_>,
    ) -> Result<String, CompileError> {
        let text = self.with_module(function, bounds.into(), true, |_, module| {
            Ok(module.print_to_string().to_string())
        })?;
        Ok(labelled(&text, label))
    }
}

/// Labels in place of debug information.
fn labelled(ir: &str, label: Label<'_>) -> String {
    let parts = parts(ir);
    let mut text = String::with_capacity(ir.len());
    let mut last = None;
    for line in ir.lines() {
        if line.starts_with("!llvm.dbg.cu") || is_debug_node(line) {
            continue;
        }
        let (line, note) = without_note(line);
        if !line.starts_with(' ') {
            // A block begins.
            last = None;
        } else if let Some(&origin) = note.and_then(|note| parts.get(note))
            && last != Some(origin)
        {
            last = Some(origin);
            // Writing to a string does not fail.
            let _ = match origin {
                Origin::Inst(pc) => writeln!(text, "  ; {}", label(pc)),
                other => writeln!(text, "  ; {other}"),
            };
        }
        let _ = writeln!(text, "{line}");
    }
    text
}

/// By number of a location's node, as text, the part it stands for.
fn parts(ir: &str) -> HashMap<&str, Origin> {
    let part = |line| -> Option<(&str, Origin)> {
        let (node, location) = str::split_once(line, " = !DILocation(")?;
        let field = |name: &str| -> Option<u64> {
            let (_, value) = location.split_once(name)?;
            value.split([',', ')']).next()?.parse().ok()
        };
        Some((node, part(field("line: ")?, field("column: ")?)?))
    };
    ir.lines().filter_map(part).collect()
}

/// Whether it is a node of debug information.
fn is_debug_node(line: &str) -> bool {
    line.starts_with('!')
        && line.split_once(" = ").is_some_and(|(_, node)| {
            node.strip_prefix("distinct ").unwrap_or(node).starts_with("!DI")
        })
}

/// A line without the note of where it is from, and the note's node.
fn without_note(line: &str) -> (String, Option<&str>) {
    const NOTE: &str = " !dbg ";
    let Some((before, behind)) = line.split_once(NOTE) else { return (line.to_owned(), None) };
    let end = behind.find([',', ' ']).unwrap_or(behind.len());
    let (node, rest) = behind.split_at(end);
    // What follows on a function's line is its body, on others the next note.
    let before = before.strip_suffix(',').unwrap_or(before);
    (format!("{before}{rest}"), Some(node))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_become_labels() {
        let ir = "define i64 @body(ptr %0) !dbg !2 {\n\
                  \x20 %2 = load i64, ptr %0, align 8, !dbg !3, !tbaa !1\n\
                  \x20 %3 = add i64 %2, 1, !dbg !3\n\
                  \x20 br label %4, !dbg !4\n\
                  \n\
                  4:\n\
                  \x20 ret i64 %3, !dbg !4\n\
                  }\n\
                  !llvm.dbg.cu = !{!0}\n\
                  !0 = distinct !DICompileUnit(language: DW_LANG_C)\n\
                  !1 = !{!\"stack\"}\n\
                  !2 = distinct !DISubprogram(name: \"body\")\n\
                  !3 = !DILocation(line: 7, column: 1, scope: !2)\n\
                  !4 = !DILocation(line: 1, column: 3, scope: !2)\n";
        let expected = "define i64 @body(ptr %0) {\n\
                        \x20 ; at 6\n\
                        \x20 %2 = load i64, ptr %0, align 8, !tbaa !1\n\
                        \x20 %3 = add i64 %2, 1\n\
                        \x20 ; end of b0\n\
                        \x20 br label %4\n\
                        \n\
                        4:\n\
                        \x20 ; end of b0\n\
                        \x20 ret i64 %3\n\
                        }\n\
                        !1 = !{!\"stack\"}\n";
        assert_eq!(labelled(ir, &|pc| format!("at {}", pc.0)), expected);
    }
}
