//! The faults and the stages of the suite, as they are written down.
//!
//! **Owns** what an entry means, and finding its place in the sources. **Callers guarantee** nothing: a list
//! that does not fit the sources is refused. **Never** writes.

use serde::Deserialize;
use std::{
    collections::{BTreeMap, HashSet},
    ops::Range,
    path::{Path, PathBuf},
    time::Duration,
};
use thiserror::Error;

/// The folder of both files.
const FOLDER: &str = "tests/mutate";
/// The folder of case files.
const CASES: &str = "tests/cases";
/// The stage that runs them.
pub(crate) const CASES_STAGE: &str = "cases";
/// The variable that names the fault that is switched on.
pub(crate) const VARIABLE: &str = "PLANTED_FAULT";
/// What stands for the switch in a replacement.
const SWITCH: &str = "$FAULT";

/// Why a list is refused.
#[derive(Debug, Error)]
pub(crate) enum ListError {
    #[error("{}: {error}", path.display())]
    Read { path: PathBuf, error: std::io::Error },
    #[error("{file}: {error}")]
    Parse { file: &'static str, error: Box<toml::de::Error> },
    #[error("two faults are called {0}")]
    Twice(String),
    #[error(
        "{fault}: its text is {count} times in {file}, not once: the source changed, and the fault with it"
    )]
    Place { fault: String, file: String, count: usize },
    #[error("{fault}: {why}")]
    Form { fault: String, why: &'static str },
    #[error("{0} and {1} are at the same place")]
    Overlap(String, String),
    #[error("{fault}: there is no {what}")]
    Unknown { fault: String, what: String },
}

/// A fault.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fault {
    pub(crate) name: String,
    /// What is wrong, for the table.
    pub(crate) says: String,
    /// From the root of the repository.
    pub(crate) file: String,
    /// A text that is in the file once.
    pub(crate) find: String,
    /// The expression in its place.
    expression: Option<String>,
    /// The statements in its place.
    statement: Option<String>,
    /// Any text in its place, with [`SWITCH`] where it asks for the switch.
    text: Option<String>,
    /// Case files that are asked before anything else.
    #[serde(default)]
    pub(crate) cases: Vec<String>,
    /// Stages that are asked then: those that are expected to catch it.
    #[serde(default)]
    pub(crate) stages: Vec<String>,
}

/// A part of the suite: a test binary, or some tests of it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Stage {
    pub(crate) name: String,
    /// The folder of its package.
    pub(crate) package: String,
    /// An integration test; without it, the library's own tests.
    pub(crate) test: Option<String>,
    /// Arguments of the test binary.
    #[serde(default)]
    pub(crate) args: Vec<String>,
    #[serde(default)]
    pub(crate) env: BTreeMap<String, String>,
    /// Whether there are no such tests without LLVM.
    #[serde(default)]
    pub(crate) llvm: bool,
}

/// Everything that is written down.
#[derive(Debug)]
pub(crate) struct List {
    pub(crate) faults: Vec<Fault>,
    pub(crate) stages: Vec<Stage>,
}

/// What is to be written where, by file, in ascending order.
pub(crate) type Places = BTreeMap<String, Vec<(Range<usize>, String)>>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FaultFile {
    fault: Vec<Fault>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SuiteFile {
    stage: Vec<Stage>,
}

impl Fault {
    /// What stands in the place of its text: the fault if it is switched on, else what was there.
    fn planted(&self) -> Result<String, ListError> {
        let refused = |why| ListError::Form { fault: self.name.clone(), why };
        let on = self.switch();
        let find = &self.find;
        match (&self.expression, &self.statement, &self.text) {
            (Some(fault), None, None) => Ok(format!("(if {on} {{ {fault} }} else {{ {find} }})")),
            (None, Some(fault), None) => Ok(format!("if {on} {{ {fault} }} else {{ {find} }}")),
            (None, None, Some(fault)) if fault.contains(SWITCH) => {
                Ok(fault.replace(SWITCH, &format!("({on})")))
            }
            (None, None, Some(_)) => Err(refused("its text does not ask for the switch")),
            _ => Err(refused("one of expression, statement and text is wanted")),
        }
    }

    /// An expression that says whether the fault is on, the same for the life of the process.
    fn switch(&self) -> String {
        let name = &self.name;
        format!(
            "{{ static ON: ::std::sync::LazyLock<bool> = ::std::sync::LazyLock::new(|| \
             ::std::env::var(\"{VARIABLE}\").is_ok_and(|on| on == \"{name}\")); *ON }}"
        )
    }
}

impl List {
    /// Reads both files.
    pub(crate) fn read(root: &Path) -> Result<Self, ListError> {
        fn parse<T: serde::de::DeserializeOwned>(
            root: &Path,
            file: &'static str,
        ) -> Result<T, ListError> {
            let text = read(&root.join(FOLDER).join(file))?;
            toml::from_str(&text).map_err(|error| ListError::Parse { file, error: Box::new(error) })
        }
        let faults = parse::<FaultFile>(root, "faults.toml")?.fault;
        let stages = parse::<SuiteFile>(root, "suite.toml")?.stage;
        let list = Self { faults, stages };
        list.check()?;
        list.check_cases(root)?;
        Ok(list)
    }

    fn check(&self) -> Result<(), ListError> {
        let mut names = HashSet::new();
        for fault in &self.faults {
            if !names.insert(&fault.name) {
                return Err(ListError::Twice(fault.name.clone()));
            }
            let unknown = |name: &&String| !self.stages.iter().any(|stage| stage.name == **name);
            if let Some(stage) = fault.stages.iter().find(unknown) {
                let what = format!("stage {stage}");
                return Err(ListError::Unknown { fault: fault.name.clone(), what });
            }
        }
        Ok(())
    }

    /// Whether all case files that are named are there.
    fn check_cases(&self, root: &Path) -> Result<(), ListError> {
        for fault in &self.faults {
            let file = |case: &String| root.join(CASES).join(case).with_extension("evm");
            if let Some(case) = fault.cases.iter().find(|case| !file(case).is_file()) {
                let what = format!("case file {case}");
                return Err(ListError::Unknown { fault: fault.name.clone(), what });
            }
        }
        Ok(())
    }

    /// Finds the place of every fault: each text is there once, and none overlap.
    pub(crate) fn locate(&self, root: &Path) -> Result<Places, ListError> {
        let mut found: BTreeMap<&str, Vec<(Range<usize>, &Fault)>> = BTreeMap::new();
        for fault in &self.faults {
            let text = read(&root.join(&fault.file))?;
            let mut at = text.match_indices(&fault.find).map(|(at, _)| at);
            match (at.next(), at.count()) {
                (Some(at), 0) => {
                    let range = at..at + fault.find.len();
                    found.entry(&fault.file).or_default().push((range, fault));
                }
                (first, more) => {
                    let (name, file) = (fault.name.clone(), fault.file.clone());
                    let count = usize::from(first.is_some()) + more;
                    return Err(ListError::Place { fault: name, file, count });
                }
            }
        }
        let mut places = Places::new();
        for (file, mut faults) in found {
            faults.sort_by_key(|(range, _)| range.start);
            for pair in faults.windows(2) {
                if pair[0].0.end > pair[1].0.start {
                    let [a, b] = [0, 1].map(|index| pair[index].1.name.clone());
                    return Err(ListError::Overlap(a, b));
                }
            }
            let planted = faults.into_iter().map(|(range, fault)| Ok((range, fault.planted()?)));
            places.insert(file.to_owned(), planted.collect::<Result<_, ListError>>()?);
        }
        Ok(places)
    }
}

impl Stage {
    /// How long it may take before it counts as hung: it took so long without a fault.
    pub(crate) fn limit(took: Duration) -> Duration {
        Duration::from_secs(40) + took * 5
    }
}

fn read(path: &Path) -> Result<String, ListError> {
    let error = |error| ListError::Read { path: path.to_owned(), error };
    std::fs::read_to_string(path).map_err(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who changes a source that a fault is in learns of it here.
    #[test]
    fn the_list_fits_the_sources() {
        let root = crate::root();
        let list = List::read(&root).expect("the list can be read");
        let places = list.locate(&root).expect("every fault has its place");
        assert!(list.faults.len() >= 25, "{} faults", list.faults.len());
        assert!(places.len() > 10, "they are spread over {} files", places.len());
    }

    fn fault(name: &str, find: &str, expression: &str) -> Fault {
        Fault {
            name: name.to_owned(),
            says: String::new(),
            file: "a.rs".to_owned(),
            find: find.to_owned(),
            expression: Some(expression.to_owned()),
            statement: None,
            text: None,
            cases: Vec::new(),
            stages: Vec::new(),
        }
    }

    fn located(faults: Vec<Fault>) -> Result<Places, ListError> {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("a.rs"), "a + b - a * c").expect("a file");
        let list = List { faults, stages: Vec::new() };
        list.check()?;
        list.locate(folder.path())
    }

    #[test]
    fn faults_are_planted_where_their_text_is() {
        let places = located(vec![fault("two", "a * c", "a"), fault("one", "a + b", "b + 1")]);
        let places = &places.expect("both are there")["a.rs"];
        assert_eq!((&places[0].0, &places[1].0), (&(0..5), &(8..13)));
        assert!(places[0].1.contains("\"one\"") && places[0].1.ends_with("{ a + b })"));
    }

    #[test]
    fn lists_that_do_not_fit_are_refused() {
        let place = |faults| match located(faults) {
            Err(ListError::Place { count, .. }) => Some(count),
            _ => None,
        };
        assert_eq!(place(vec![fault("none", "d", "a")]), Some(0));
        assert_eq!(place(vec![fault("many", "a", "b")]), Some(2));
        let twice = located(vec![fault("one", "a + b", "a"), fault("one", "a * c", "a")]);
        assert!(matches!(twice, Err(ListError::Twice(_))));
        let overlap = located(vec![fault("one", "a + b", "a"), fault("two", "b - a", "a")]);
        assert!(matches!(overlap, Err(ListError::Overlap(..))));
        let text = Some("no switch".to_owned());
        let form = Fault { expression: None, text, ..fault("one", "a + b", "") };
        assert!(matches!(located(vec![form]), Err(ListError::Form { .. })));
        let stages = vec!["nowhere".to_owned()];
        let stage = located(vec![Fault { stages, ..fault("one", "a + b", "a") }]);
        assert!(matches!(stage, Err(ListError::Unknown { .. })));
    }
}
