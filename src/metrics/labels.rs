//! The values of one series' labels, paired with the metric's label names and escaped.
//!
//! Must not know: which metric they belong to.

use std::fmt::{self, Write as _};

use prometheus_client::encoding::{EncodeLabelSet, LabelSetEncoder};

use super::Metric;

/// Label values in the order of the metric's label names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Labels {
    names: &'static [&'static str],
    values: Box<[Box<str>]>,
}

impl Labels {
    /// Pairs values with names; a value too many or too few is a mistake in our own code.
    pub(super) fn new(metric: &'static Metric, values: &[&str]) -> Self {
        assert_eq!(metric.labels.len(), values.len(), "{}: values for its labels", metric.name);
        Self { names: metric.labels, values: values.iter().map(|&value| value.into()).collect() }
    }
}

impl EncodeLabelSet for Labels {
    fn encode(&self, encoder: &mut LabelSetEncoder) -> fmt::Result {
        for (name, value) in self.names.iter().zip(&self.values) {
            let mut label = encoder.encode_label();
            let mut key = label.encode_label_key()?;
            key.write_str(name)?;
            let mut text = key.encode_label_value()?;
            // The crate writes values as they are: a quote in one would break the whole scrape.
            for c in value.chars() {
                match c {
                    '\\' => text.write_str("\\\\")?,
                    '"' => text.write_str("\\\"")?,
                    '\n' => text.write_str("\\n")?,
                    _ => text.write_char(c)?,
                }
            }
            text.finish()?;
        }
        Ok(())
    }
}
