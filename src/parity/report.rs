//! What a comparison comes to, for people and for programs.
//!
//! Must not know: how anything was compared.

use std::fmt;

use serde::Serialize;

/// The whole of it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// How many routes came out how.
    pub sums: Sums,
    /// Every route of either side, by the key under its service's own host.
    pub names: Vec<NameReport>,
    /// What is no difference, and should be known.
    pub remarks: Vec<String>,
}

/// Routes by verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct Sums {
    pub equal: usize,
    pub differ: usize,
    pub here_only: usize,
    pub there_only: usize,
}

/// One route.
#[derive(Clone, Debug, Serialize)]
pub struct NameReport {
    /// `outbound_.<port>_.<subset>_.<host>`.
    pub name: String,
    /// How it came out.
    pub verdict: Verdict,
    /// The objects that are responsible.
    pub objects: Vec<String>,
    /// Why it is on one side only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What differs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<Difference>,
}

/// How a route came out: `here` is this gateway, `there` Envoy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Verdict {
    Equal,
    Differs,
    HereOnly,
    ThereOnly,
}

impl Verdict {
    /// A word or two.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "equal",
            Self::Differs => "differs",
            Self::HereOnly => "here only",
            Self::ThereOnly => "there only",
        }
    }
}

/// One thing that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// What.
    pub what: String,
    /// Its value in this gateway.
    pub here: String,
    /// Its value in Envoy.
    pub there: String,
}

impl Report {
    /// True when nothing differs.
    #[must_use]
    pub fn is_equal(&self) -> bool {
        let Sums { differ, here_only, there_only, .. } = self.sums;
        (differ, here_only, there_only) == (0, 0, 0)
    }

    pub(super) fn add(&mut self, name: NameReport) {
        let sum = match name.verdict {
            Verdict::Equal => &mut self.sums.equal,
            Verdict::Differs => &mut self.sums.differ,
            Verdict::HereOnly => &mut self.sums.here_only,
            Verdict::ThereOnly => &mut self.sums.there_only,
        };
        *sum += 1;
        self.names.push(name);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Sums { equal, differ, here_only, there_only } = self.sums;
        writeln!(
            f,
            "{} names: {equal} equal, {differ} differ, {here_only} here only, {there_only} there \
             only (here: this gateway, there: Envoy)",
            self.names.len()
        )?;
        for name in self.names.iter().filter(|name| name.verdict != Verdict::Equal) {
            name.fmt(f)?;
        }
        for remark in &self.remarks {
            writeln!(f, "remark: {}", one_line(remark))?;
        }
        Ok(())
    }
}

impl fmt::Display for NameReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = |head: &str, text: &str| writeln!(f, "{head:<11}{}", one_line(text));
        line(self.verdict.as_str(), &self.name)?;
        if !self.objects.is_empty() {
            line("", &self.objects.join(", "))?;
        }
        if let Some(reason) = &self.reason {
            line("", reason)?;
        }
        for Difference { what, here, there } in &self.differences {
            line("", &format!("{what}: here {here}, there {there}"))?;
        }
        Ok(())
    }
}

/// Names are another program's: what could end a line, or look like one of ours, is escaped.
fn one_line(text: &str) -> String {
    let escape = |c: char| if c.is_control() { c.escape_debug().to_string() } else { c.into() };
    text.chars().map(escape).collect()
}
