//! What a DestinationRule's `outlierDetection` comes to.
//!
//! Pure. Envoy reads it for HTTP; towards a TCP service a connection that fails counts as a 503,
//! which is both a 5xx and a gateway error. Must not know: how a rule is found, who is ejected.

use std::time::Duration;

use crate::{manifests::kinds::destination_rule::OutlierDetection, routing::Outlier};

/// Envoy's default for `consecutive5xxErrors` and `consecutiveLocalOriginFailures`.
const CONSECUTIVE: u32 = 5;
/// Envoy's `max_ejection_time`, for which Istio has no field.
const EJECTION_MAX: Duration = Duration::from_secs(300);

/// Istio's meaning of a written `outlierDetection`, with its defaults: 5 in a row, 30 s for each
/// ejection, 10 % at most, no panic rule.
pub(super) fn translate(written: &OutlierDetection) -> Outlier {
    // As in Istio, zero switches a number off, and leaves a time or a share at its default.
    let time = |written: Option<Duration>, default: u64| {
        written.filter(|time| !time.is_zero()).unwrap_or(Duration::from_secs(default))
    };
    let percent = |written: u32| u8::try_from(written.min(100)).unwrap_or(100);
    let local = written.consecutive_local_origin_failures.filter(|n| *n > 0);
    let base_ejection_time = time(written.base_ejection_time, 30);
    Outlier {
        consecutive: count(errors(written)),
        consecutive_local: written
            .split_external_local_origin_errors
            .then(|| count(local.unwrap_or(CONSECUTIVE))),
        interval: time(written.interval, 10),
        base_ejection_time,
        max_ejection_time: EJECTION_MAX.max(base_ejection_time),
        max_ejection_percent: percent(
            written.max_ejection_percent.filter(|n| *n > 0).unwrap_or(10),
        ),
        min_health_percent: percent(written.min_health_percent.unwrap_or(0)),
    }
}

/// The number of errors in a row that ejects: the smaller of the two that are in force; 0: none.
fn errors(written: &OutlierDetection) -> u32 {
    let OutlierDetection { consecutive_5xx_errors: of_5xx, consecutive_gateway_errors, .. } =
        *written;
    let of_gateway = match (consecutive_gateway_errors, written.consecutive_errors) {
        // The field that went before them stands alone: it switched 5xx off.
        (None, Some(old)) if old > 0 && of_5xx.is_none() => return old,
        (of_gateway, _) => of_gateway.unwrap_or(0),
    };
    let in_force = [of_5xx.unwrap_or(CONSECUTIVE), of_gateway].into_iter().filter(|n| *n > 0);
    in_force.min().unwrap_or(0)
}

fn count(n: u32) -> u16 {
    u16::try_from(n).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(yaml: &str) -> Outlier {
        translate(&serde_norway::from_str(yaml).expect("outlierDetection"))
    }

    /// Failures in a row, all kinds or of TLS, and of connections where they are apart.
    fn check(yaml: &str, consecutive: u16, local: Option<u16>) {
        let found = read(yaml);
        assert_eq!((found.consecutive, found.consecutive_local), (consecutive, local), "{yaml}");
    }

    #[test]
    fn failures_in_a_row_are_read_as_envoy_reads_them() {
        check("{}", 5, None);
        check("{consecutive5xxErrors: 7}", 7, None);
        check("{consecutiveGatewayErrors: 2}", 2, None);
        check("{consecutive5xxErrors: 3, consecutiveGatewayErrors: 4}", 3, None);
        check("{consecutive5xxErrors: 0}", 0, None);
        check("{consecutive5xxErrors: 0, consecutiveGatewayErrors: 4}", 4, None);
        check("{consecutive5xxErrors: 100000}", u16::MAX, None);
        check("{consecutiveErrors: 9}", 9, None);
        check("{consecutiveErrors: 9, consecutive5xxErrors: 3}", 3, None);
    }

    #[test]
    fn failures_to_connect_are_apart_only_when_they_are_split() {
        check("{consecutiveLocalOriginFailures: 2}", 5, None);
        check("{splitExternalLocalOriginErrors: true}", 5, Some(5));
        check(
            "{splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailures: 2, \
              consecutive5xxErrors: 0}",
            0,
            Some(2),
        );
    }

    #[test]
    fn times_and_shares_have_istios_defaults() {
        let seconds = Duration::from_secs;
        let plain = read("{interval: 0s, maxEjectionPercent: 0}");
        assert_eq!((plain.interval, plain.base_ejection_time), (seconds(10), seconds(30)));
        assert_eq!((plain.max_ejection_percent, plain.min_health_percent), (10, 0));
        assert_eq!(plain.max_ejection_time, seconds(300));
        let all = read(
            "{interval: 1s, baseEjectionTime: 10m, maxEjectionPercent: 100, minHealthPercent: 40}",
        );
        assert_eq!((all.interval, all.base_ejection_time), (seconds(1), seconds(600)));
        assert_eq!((all.max_ejection_percent, all.min_health_percent), (100, 40));
        assert_eq!(all.max_ejection_time, seconds(600));
    }
}
