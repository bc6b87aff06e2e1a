//! A reader that cannot leave its slice: a field is there whole, or it is `None`.
//!
//! Must not know: what the fields mean.

/// What is left of one field. A nested field gets a reader of its own, so that an inner length is
/// held against the field around it and not against the buffer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn into_bytes(self) -> &'a [u8] {
        self.0
    }

    pub(super) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u8_prefixed(&mut self) -> Option<Self> {
        let len = self.u8()?;
        self.take(len.into()).map(Self)
    }

    pub(super) fn u16_prefixed(&mut self) -> Option<Self> {
        let len = self.u16()?;
        self.take(len.into()).map(Self)
    }

    /// All that is left as 16-bit values; `None` when there is none, or half a one at the end.
    pub(super) fn into_u16s(self) -> Option<Box<[u16]>> {
        let (pairs, odd) = self.0.as_chunks();
        let sound = !pairs.is_empty() && odd.is_empty();
        sound.then(|| pairs.iter().copied().map(u16::from_be_bytes).collect())
    }
}
