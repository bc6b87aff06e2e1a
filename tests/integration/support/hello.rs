//! ClientHellos made to measure. Must not know: gateways.

/// What a hello says. [`Hello::new`] is one that is served.
#[derive(Clone)]
pub struct Hello {
    pub legacy_version: u16,
    pub server_name: Option<String>,
    pub alpn: Vec<&'static str>,
    pub early_data: bool,
    /// Bytes of the padding extension's body; `None`: no such extension.
    pub padding: Option<usize>,
}

impl Hello {
    pub fn new(server_name: &str) -> Self {
        Self {
            legacy_version: 0x0303,
            server_name: Some(server_name.to_owned()),
            alpn: vec!["istio"],
            early_data: false,
            padding: None,
        }
    }

    /// One record that holds it all, or several where it is longer than 16,384 bytes.
    pub fn wire(&self) -> Vec<u8> {
        records(&self.message(), 1 << 14)
    }

    /// The handshake message.
    pub fn message(&self) -> Vec<u8> {
        let mut body = self.legacy_version.to_be_bytes().to_vec();
        body.extend([7; 32]); // random
        body.extend([0]); // session id
        body.extend([0, 2, 0x13, 0x01, 1, 0]); // one cipher suite, no compression
        body.extend(long(&self.extensions()));
        let mut message = vec![1];
        message.extend(&u32::try_from(body.len()).expect("short").to_be_bytes()[1..]);
        message.extend(body);
        message
    }

    fn extensions(&self) -> Vec<u8> {
        let mut all = Vec::new();
        if let Some(name) = &self.server_name {
            let entry = [&[0][..], &long(name.as_bytes())].concat();
            all.extend(extension(0, &long(&entry)));
        }
        if !self.alpn.is_empty() {
            let name = |name: &&str| [&[short(name.len())][..], name.as_bytes()].concat();
            all.extend(extension(16, &long(&self.alpn.iter().flat_map(name).collect::<Vec<_>>())));
        }
        all.extend(extension(43, &[2, 3, 4]));
        if self.early_data {
            all.extend(extension(42, &[]));
        }
        if let Some(len) = self.padding {
            all.extend(extension(21, &vec![0; len]));
        }
        all
    }
}

/// Cuts a handshake message into records of at most `len` bytes each.
pub fn records(message: &[u8], len: usize) -> Vec<u8> {
    message.chunks(len).flat_map(|piece| [&[22, 3, 1][..], &long(piece)].concat()).collect()
}

fn extension(kind: u16, body: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &long(body)].concat()
}

/// With its length in two bytes in front.
fn long(bytes: &[u8]) -> Vec<u8> {
    let len = u16::try_from(bytes.len()).expect("short");
    [&len.to_be_bytes()[..], bytes].concat()
}

fn short(len: usize) -> u8 {
    u8::try_from(len).expect("short")
}
