//! Dumps that Envoy did not write: what is wrong costs little, is told, and is shown in short.

use proptest::{prelude::*, sample::Index};

use super::*;

#[test]
fn what_cannot_be_read_costs_only_itself_and_is_named() {
    let yaml = mesh("'*.local'", "");
    let cannot = |why: &str| {
        format!(
            "differs    {BAR}\n           Service ns2/bar\n           cluster: here is there, there \
             cannot be read: {why}"
        )
    };
    let mut odd = cluster();
    odd["connect_timeout"] = "a while".into();
    let why = cannot("connect_timeout: `a while` is no duration, such as 10s");
    check(&yaml, &dump(&odd, &both(), &[chain(BAR)]), &why);
    odd["connect_timeout"] = 10.into();
    let why = cannot("connect_timeout: invalid type: integer `10`, expected a string");
    check(&yaml, &dump(&odd, &both(), &[chain(BAR)]), &why);
    let mut odd = both();
    odd[0]["lb_endpoints"][1]["load_balancing_weight"] = (-1).into();
    let why = "its endpoints: load_balancing_weight: expected a whole number, not negative";
    check(&yaml, &dump(&cluster(), &odd, &[chain(BAR)]), &cannot(why));

    // One that no name leads to is no difference.
    let other = json!({"cluster": {"name": "xds-grpc", "circuit_breakers": []}});
    let mut text: Value =
        serde_json::from_str(&text(&cluster(), &both(), &[chain(BAR)])).expect("JSON");
    text["configs"][0]["static_clusters"] = json!([other]);
    let good = Dump::read(text.to_string().as_bytes()).expect("a dump");
    check(&yaml, &good, "");
    text["configs"][0]["static_clusters"][0]["cluster"]["circuit_breakers"] = 1.into();
    let dump = Dump::read(text.to_string().as_bytes()).expect("a dump");
    let why = "invalid type: integer `1`, expected an object";
    let remark = format!("remark: cluster xds-grpc there cannot be read: circuit_breakers: {why}");
    check(&yaml, &dump, &remark);

    // Who is let in nobody can tell without the listener.
    let listener = &mut text["configs"][2]["dynamic_listeners"][0]["active_state"]["listener"];
    listener["filter_chains"][0]["filter_chain_match"] = "x".into();
    let error = Dump::read(text.to_string().as_bytes()).expect_err("no dump").to_string();
    let why = "invalid type: string \"x\", expected an object";
    assert_eq!(error, format!("a listener (x) of it cannot be read: filter_chain_match: {why}"));
    text["configs"][2]["dynamic_listeners"] = 1.into();
    let error = Dump::read(text.to_string().as_bytes()).expect_err("no dump").to_string();
    let place = "configs[2] (type.googleapis.com/envoy.admin.v3.ListenersConfigDump) of it cannot";
    assert!(error.starts_with(place), "{error}");
    for (bytes, expected) in [
        ("[]", "it is not a config dump of Envoy: invalid length 0, expected an object with"),
        ("{\"configs\": [", "at line 1 column 13 (it is cut short)"),
    ] {
        let error = Dump::read(bytes.as_bytes()).expect_err("no dump").to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn of_an_endless_name_little_is_shown() {
    let name = format!("outbound_.1_._.{}", "a".repeat(1 << 20));
    let dump = dump(&cluster(), &both(), &[chain(&name), chain(BAR)]);
    let report = compare(&catalog(&mesh("'*.local'", "")), &ALPN.map(String::from), &dump);
    assert_eq!((report.sums.equal, report.sums.there_only), (1, 1));
    let shown = report.to_string();
    assert!(shown.len() < 2_000 && shown.contains("aaa… (1048591 bytes)"), "{}", shown.len());
}

proptest! {
    /// Whatever a dump holds: it is read or refused, and its report can be shown.
    #[test]
    fn no_dump_is_too_odd(
        planted in prop::collection::vec((path(), odd()), 1..4),
        cut in prop::option::weighted(0.1, any::<Index>()),
    ) {
        let mut all = cluster();
        all["outlier_detection"] = json!({"consecutive_5xx": 5, "interval": "1s"});
        all["common_lb_config"] =
            json!({"locality_weighted_lb_config": {}, "healthy_panic_threshold": {"value": 1}});
        all["least_request_lb_config"] =
            json!({"slow_start_config": {"slow_start_window": "1s", "min_weight_percent": {}}});
        let text = text(&all, &both(), &[chain(BAR), by_cluster(None)]);
        let mut dump: Value = serde_json::from_str(&text).expect("JSON");
        for (path, odd) in &planted {
            plant(&mut dump, path, odd);
        }
        let mut bytes = dump.to_string().into_bytes();
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(dump) = Dump::read(&bytes) {
            let report = compare(&catalog(&mesh("'*'", "")), &ALPN.map(String::from), &dump);
            let verdicts = report.names.len();
            prop_assert!(report.to_string().lines().count() > 0 && verdicts > 0);
        }
    }
}

fn path() -> impl Strategy<Value = Vec<Index>> {
    prop::collection::vec(any::<Index>(), 1..14)
}

/// What may stand in the place of anything else.
fn odd() -> impl Strategy<Value = Value> {
    prop::sample::select(vec![
        Value::Null,
        json!(0),
        json!(-1),
        json!(1e308),
        json!(u64::MAX),
        json!(""),
        json!("0s"),
        json!("-1s"),
        json!("infs"),
        json!("NaNs"),
        json!("1e30s"),
        json!("18446744073709551616"),
        json!("outbound_.0_._.\u{1b}"),
        json!("*"),
        json!([]),
        json!({}),
    ])
}

fn plant(value: &mut Value, path: &[Index], odd: &Value) {
    match (path.split_first(), value) {
        (Some((at, rest)), Value::Array(list)) if !list.is_empty() => {
            let at = at.index(list.len());
            plant(&mut list[at], rest, odd);
        }
        (Some((at, rest)), Value::Object(map)) if !map.is_empty() => {
            let at = at.index(map.len());
            map.values_mut().skip(at).take(1).for_each(|value| plant(value, rest, odd));
        }
        (_, value) => *value = odd.clone(),
    }
}
