//! The relay's machine in every order of events up to eight of them.
//!
//! Must not know: what must hold, which is in `fuzz/src/relay.rs`, nor how the machine works.

use std::{collections::HashSet, time::Instant};

use ahash::RandomState;

#[path = "../fuzz/src/relay.rs"]
#[allow(unreachable_pub, dead_code)] // the fuzz crate needs it
mod relay;

use relay::{Action, Driver, Model, Taken};

const DEPTH: usize = 8;

/// Looks at every state once, however many orders lead to it.
fn explore(driver: Driver) {
    let begin = Instant::now();
    let openings = Taken::all().flat_map(|up| Taken::all().map(move |down| (up, down)));
    // Only the client's FIN is passed on before there is a relay.
    let openings = openings.filter(|(_, down)| !down.finished);
    let mut edge: Vec<_> = openings.map(|(up, down)| Model::new(driver, up, down, begin)).collect();
    let mut seen: HashSet<Model, RandomState> = edge.iter().cloned().collect();
    let mut settled = HashSet::<Model, RandomState>::default();
    for _ in 0..DEPTH {
        let mut next = Vec::new();
        let mut keep = |model: Model| {
            if !seen.contains(&model) {
                seen.insert(model.clone());
                next.push(model);
            }
        };
        for (model, action) in edge.iter().flat_map(|m| Action::all().map(move |a| (m, a))) {
            let mut unseen = model.clone();
            if !unseen.act(action) {
                continue;
            }
            let mut woken = unseen.clone();
            keep(unseen);
            if !woken.wake() {
                keep(woken);
            }
        }
        for mut model in next.iter().cloned() {
            model.say_fin();
            if !settled.contains(&model) {
                settled.insert(model.clone());
                model.settle();
            }
        }
        edge = next;
    }
    println!("{driver:?}: {} states, {} ends", seen.len(), settled.len());
    assert!(seen.len() > 100_000, "{} states are not all", seen.len());
}

#[test]
fn every_order_of_eight_events_keeps_the_rules_by_copy() {
    explore(Driver::Copy);
}

#[test]
fn every_order_of_eight_events_keeps_the_rules_by_splice() {
    explore(Driver::Splice);
}

/// What the fuzz target found worth keeping, and some by hand.
#[test]
fn every_script_of_the_corpus_keeps_the_rules() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/relay");
    let mut scripts = 0;
    for file in std::fs::read_dir(corpus).expect("a corpus") {
        let path = file.expect("an entry").path();
        println!("{}", path.display());
        relay::script(&std::fs::read(&path).expect("a readable file"));
        scripts += 1;
    }
    assert!(scripts >= 10, "{scripts} scripts");
}
