//! What an operator should know of what is followed, in as few lines as there are causes.
//!
//! Must not know: how anything is followed, who reads this.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::health::{Followed, State};
use crate::manifests::Kind;

/// What has one cause in common.
struct Cause {
    kinds: BTreeSet<Kind>,
    age: Duration,
    is_listed: bool,
}

/// A line for each cause, with its kinds; none while all is well.
pub(super) fn causes(scopes: &[Followed]) -> Vec<String> {
    let mut causes: BTreeMap<(&str, Cow<str>), Cause> = BTreeMap::new();
    for followed in scopes {
        let new = || Cause { kinds: BTreeSet::new(), age: Duration::ZERO, is_listed: true };
        let key = (followed.state.as_str(), why(&followed.state));
        let cause = causes.entry(key).or_insert_with(new);
        cause.kinds.insert(followed.kind);
        cause.age = cause.age.max(followed.since.elapsed());
        cause.is_listed &= followed.is_listed;
    }
    let line = |((state, why), Cause { kinds, age, is_listed }): ((&str, _), _)| {
        let kinds: Vec<_> = kinds.into_iter().map(Kind::as_str).collect();
        let kinds = kinds.join(", ");
        match state {
            "lost" if is_listed => Some(format!(
                "no contact for {} s ({why}): what is known of {kinds} stays in use",
                age.as_secs()
            )),
            "lost" => Some(format!("{kinds} cannot be listed: {why}")),
            "forbidden" => {
                Some(format!("{kinds} may not be read: grant get, list and watch ({why})"))
            }
            "loading" => Some(format!("{kinds} are being listed")),
            _ => None,
        }
    };
    causes.into_iter().filter_map(line).collect()
}

/// The causes alone, for who was told the kinds.
pub(super) fn whys(scopes: &[Followed]) -> String {
    let told = |followed: &Followed| match &followed.state {
        State::Loading => Some("no whole answer yet".to_owned()),
        State::Lost(_) | State::Forbidden(_) => Some(why(&followed.state).into_owned()),
        State::Live | State::Absent => None,
    };
    let whys: BTreeSet<String> = scopes.iter().filter_map(told).collect();
    whys.into_iter().collect::<Vec<_>>().join("; ")
}

/// Why, without the kind, where the API names it: else each kind had a cause of its own.
fn why(state: &State) -> Cow<'_, str> {
    let why = state.why();
    let is_forbidden = matches!(state, State::Forbidden(_));
    let general = is_forbidden.then(|| general(why)).flatten();
    general.map_or(Cow::Borrowed(why), Cow::Owned)
}

/// `pods is forbidden: User "a" cannot list resource "pods" in API group "" at the cluster scope`.
fn general(why: &str) -> Option<String> {
    let (_, rest) = why.split_once(" is forbidden: ")?;
    let (who, rest) = rest.split_once(" resource \"")?;
    let (_, rest) = rest.split_once("\" in API group \"")?;
    let (_, place) = rest.split_once('"')?;
    Some(format!("{who}{place}"))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn followed(kind: Kind, state: State) -> Followed {
        let since = Instant::now();
        Followed { kind, namespace: None, state, since, is_listed: false, is_hopeless: false }
    }

    #[test]
    fn one_line_is_told_of_all_that_one_cause_keeps_back() {
        let forbidden = |kind, plural: &str, group: &str| {
            let why = format!(
                "{plural} is forbidden: User \"a\" cannot list resource \"{plural}\" in API group \
                 \"{group}\" at the cluster scope"
            );
            followed(kind, State::Forbidden(why))
        };
        let scopes = [
            forbidden(Kind::Pod, "pods", ""),
            forbidden(Kind::EndpointSlice, "endpointslices", "discovery.k8s.io"),
            followed(Kind::Service, State::Forbidden("no".into())),
            followed(Kind::Gateway, State::Lost("401: Unauthorized".into())),
            followed(Kind::ServiceEntry, State::Lost("401: Unauthorized".into())),
            followed(Kind::Node, State::Loading),
            followed(Kind::Endpoints, State::Absent),
        ];
        let who = "User \"a\" cannot list at the cluster scope";
        let grant = "may not be read: grant get, list and watch";
        assert_eq!(
            causes(&scopes),
            [
                format!("EndpointSlice, Pod {grant} ({who})"),
                format!("Service {grant} (no)"),
                "Node are being listed".to_owned(),
                "Gateway, ServiceEntry cannot be listed: 401: Unauthorized".to_owned(),
            ]
        );
        let expected = format!("401: Unauthorized; {who}; no; no whole answer yet");
        assert_eq!(whys(&scopes), expected);
    }
}
