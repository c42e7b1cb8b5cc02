//! The comparison, on states that were changed by hand.

use super::*;
use crate::asm::assemble;
use kiln_runtime::Tier;
use revm::primitives::hardfork::SpecId;

fn case() -> Case {
    let text = "PUSH1 3 JUMPDEST PUSH1 1 SWAP1 SUB DUP1 PUSH0 MSTORE DUP1 PUSH1 2 JUMPI STOP";
    Case::of_code(SpecId::CANCUN, assemble(text).expect("the text assembles"))
}

/// All states of the case, in full.
fn states(case: &Case) -> (Arc<Steps>, Vec<Full>) {
    let evm = || context(case, &CaseDb::new(case)).build_mainnet();
    let full = |step| Steps::on(case, evm(), Some(step)).0.full.expect("there is such a step");
    let (steps, _) = stepped(case);
    let states = (0..steps.len()).map(full).collect();
    (steps, states)
}

fn follow(steps: &Arc<Steps>, reports: &[Full]) -> Option<Lost> {
    let mut follower = Follower::new(steps.clone());
    for report in reports {
        let Full { depth, pc, gas, refunded, ref stack, ref memory } = *report;
        let view = View { depth, pc, gas, refunded, stack, memory };
        follower.report(SafepointKind::Enter(Tier::Baseline), view);
    }
    follower.lost
}

#[test]
fn what_the_interpreter_came_through_is_followed() {
    let (steps, states) = states(&case());
    assert_eq!(steps.len(), 1 + 10 * 3 + 1);
    assert!(follow(&steps, &states).is_none());
    // Some, and some of them twice.
    let some: Vec<Full> =
        states.iter().step_by(4).flat_map(|state| [state.clone(), state.clone()]).collect();
    assert!(follow(&steps, &some).is_none());
    // Not in order.
    let back = [states[9].clone(), states[3].clone()];
    assert_eq!(follow(&steps, &back).expect("it goes back").last, 9);
}

#[test]
fn one_changed_value_is_found_where_it_is() {
    let (steps, states) = states(&case());
    let changes: [fn(&mut Full); 6] = [
        |state| state.stack[0] += U256::from(1),
        |state| state.stack.push(U256::ZERO),
        |state| state.gas += 1,
        |state| state.refunded += 1,
        |state| state.memory.push(0),
        |state| state.depth += 1,
    ];
    for at in 1..states.len() {
        for change in changes {
            let mut reports = states.clone();
            change(&mut reports[at]);
            let lost = follow(&steps, &reports).expect("a change is found");
            assert_eq!(lost.state, reports[at]);
            assert_eq!(lost.last, at - 1);
            let expected = lost.step.map(|step| states[step].clone());
            let divergence = Divergence::new(lost, &steps, expected);
            assert!(divergence.since.len() <= LISTED_MAX);
            let text = divergence.to_string();
            let place = format!("pc {:#x}", reports[at].pc);
            assert!(text.contains(&place) && text.contains("tier0 is entered"), "{text}");
        }
    }
    let mut reports = states.clone();
    let at = states.iter().position(|state| !state.memory.is_empty()).expect("memory is written");
    reports[at].memory[31] ^= 1;
    assert_eq!(follow(&steps, &reports).expect("memory is compared").last, at - 1);
}

/// Recording changes nothing.
#[test]
fn steps_come_to_the_same_end() {
    let case = case();
    let (steps, outcome) = stepped(&case);
    assert!(!steps.is_empty());
    assert_eq!(outcome, crate::engine::oracle(&case, &CaseDb::new(&case)));
}
