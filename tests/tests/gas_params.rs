//! Gas parameters that are not mainnet's: what they price is asked of the host while code runs, so one program
//! serves all of them.

use kiln_runtime::Tiered;
use kiln_tests::Case;
use kiln_tests::compare::differences;
use kiln_tests::db::CaseDb;
use kiln_tests::engine::{Engines, Kind, context, transact};
use kiln_tests::generate::seeded;
use revm::MainBuilder;
use revm::context_interface::cfg::GasParams;
use std::sync::Arc;

/// Mainnet's, and the same with everything that has a price at another one.
fn other_prices(params: &GasParams) -> [GasParams; 3] {
    let dearer = |by: u64| {
        let price = |gas: u64| if gas == 0 { 0 } else { gas + by };
        GasParams::new(Arc::new(params.table().map(price)))
    };
    [params.clone(), dearer(1), dearer(3)]
}

#[test]
fn other_gas_parameters_on_one_engine() {
    let engines = Engines::new().expect("engines start");
    // Everything that compiles on the calling thread without LLVM: what is baked in is the same for LLVM.
    let kinds = [Kind::Evaluator, Kind::EvaluatorRegions, Kind::Tier0All, Kind::OptimisedAll];
    let mut others = 0;
    for seed in 0..150 {
        let case = Case { gas: 300_000, ..seeded(7_000_000 + seed) };
        let db = CaseDb::new(&case);
        let mut gas_used = Vec::new();
        for params in other_prices(&context(&case, &db).cfg.gas_params) {
            let with = || {
                let mut context = context(&case, &db);
                context.cfg.set_gas_params(params.clone());
                context
            };
            let expected = transact(&case, with().build_mainnet());
            let used = expected
                .transactions
                .iter()
                .map(|tx| tx.result.as_ref().map_or(0, |result| result.tx_gas_used()));
            gas_used.push(used.collect::<Vec<_>>());
            for kind in kinds {
                let Some(engine) = engines.of(kind) else { continue };
                let evm = Tiered::mainnet(with().build_mainnet(), engine.clone());
                let details = differences(&expected, &transact(&case, evm));
                assert!(details.is_empty(), "seed {seed}, {kind:?}: {}", details.join("\n"));
            }
        }
        others += usize::from(gas_used[0] != gas_used[1] && gas_used[1] != gas_used[2]);
    }
    assert!(others > 50, "the parameters hardly ever matter: {others}");
}
