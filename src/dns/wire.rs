//! From the bytes of a query to the bytes of its answer.
//!
//! Pure, and the only place that knows the wire format (hickory-proto). Must not know: sockets,
//! where names come from.
//!
//! Nothing here makes a small question large: what is malformed is answered by twelve bytes of
//! header, and eleven of EDNS where it held that, what claims to be an answer is not answered, and
//! over UDP an answer has at most 1,232 bytes, or 512 when the client says nothing.

use hickory_proto::{
    op::{Edns, Header, Message, MessageType, Metadata, OpCode, Query, ResponseCode},
    rr::{
        DNSClass, Name, RData, Record, RecordType,
        rdata::{A, AAAA, NS, SOA},
    },
    serialize::binary::{BinDecodable as _, BinDecoder, BinEncodable as _, BinEncoder},
};

use super::{
    name::DnsName,
    zone::{Answer, Asked, Zone, Zones},
};

/// The most that is sent over UDP: fits the smallest link of IPv6 without fragments.
pub const UDP_BYTES_MAX: u16 = 1232;
/// What every client takes over UDP (RFC 1035 §4.2.1).
const UDP_BYTES_MIN: u16 = 512;

/// How a query came, and its answer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// As a datagram.
    Udp,
    /// In a stream.
    Tcp,
}

/// How a query was answered; the label of the metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With records.
    Answered,
    /// The name is there, but not of this type.
    NoData,
    /// No such name.
    NoName,
    /// Outside the suffixes, not of class IN, or a transfer.
    Refused,
    /// Before the first load.
    NotLoaded,
    /// Malformed, or not of exactly one question.
    Malformed,
    /// Something else than a query.
    NotImplemented,
    /// An EDNS version that is not 0.
    BadVersion,
    /// No answer at all: too short, or an answer itself.
    Dropped,
}

impl Outcome {
    /// Every outcome, in the order of the enum.
    pub const ALL: [Self; 9] = [
        Self::Answered,
        Self::NoData,
        Self::NoName,
        Self::Refused,
        Self::NotLoaded,
        Self::Malformed,
        Self::NotImplemented,
        Self::BadVersion,
        Self::Dropped,
    ];

    /// As metrics name it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::NoData => "nodata",
            Self::NoName => "nxdomain",
            Self::Refused => "refused",
            Self::NotLoaded => "servfail",
            Self::Malformed => "formerr",
            Self::NotImplemented => "notimp",
            Self::BadVersion => "badvers",
            Self::Dropped => "dropped",
        }
    }

    fn code(self) -> ResponseCode {
        match self {
            Self::Answered | Self::NoData | Self::Dropped => ResponseCode::NoError,
            Self::NoName => ResponseCode::NXDomain,
            Self::Refused => ResponseCode::Refused,
            Self::NotLoaded => ResponseCode::ServFail,
            Self::Malformed => ResponseCode::FormErr,
            Self::NotImplemented => ResponseCode::NotImp,
            Self::BadVersion => ResponseCode::BADVERS,
        }
    }
}

/// A query as far as it could be read.
#[derive(Default)]
struct Asking {
    question: Option<Query>,
    edns: Option<Edns>,
}

/// Answers the query in `packet` into `reply`, which is left empty when there is no answer. `ttl`
/// is in seconds.
pub fn answer(
    packet: &[u8],
    transport: Transport,
    zones: &Zones,
    ttl: u32,
    reply: &mut Vec<u8>,
) -> Outcome {
    reply.clear();
    let mut decoder = BinDecoder::new(packet);
    let header = match Header::read(&mut decoder) {
        Ok(header) if header.metadata.message_type == MessageType::Query => header,
        _ => return Outcome::Dropped,
    };
    let mut asking = Asking::default();
    let wrong = read(&header, &mut decoder, &mut asking).err();
    let mut message = Message::response(header.metadata.id, header.metadata.op_code);
    message.metadata = Metadata::response_from_request(&header.metadata);
    let outcome = match (wrong, &asking.question) {
        (Some(outcome), _) => outcome,
        (None, None) => Outcome::Malformed,
        (None, Some(question)) => fill(&mut message, question, zones, ttl),
    };
    message.metadata.response_code = outcome.code();
    message.queries.extend(asking.question);
    message.edns = asking.edns.as_ref().map(|theirs| {
        let mut edns = Edns::new();
        edns.set_max_payload(UDP_BYTES_MAX).set_dnssec_ok(theirs.flags().dnssec_ok);
        edns
    });
    let room = match (transport, &asking.edns) {
        (Transport::Tcp, _) => u16::MAX,
        (Transport::Udp, None) => UDP_BYTES_MIN,
        (Transport::Udp, Some(edns)) => edns.max_payload().clamp(UDP_BYTES_MIN, UDP_BYTES_MAX),
    };
    write(message, room, reply);
    outcome
}

/// Reads what follows the header. The question is kept only when all of the query is sound.
fn read(header: &Header, decoder: &mut BinDecoder<'_>, asking: &mut Asking) -> Result<(), Outcome> {
    if header.metadata.op_code != OpCode::Query {
        return Err(Outcome::NotImplemented);
    }
    let counts = &header.counts;
    // A query has one question (RFC 9619) and nothing that only an answer has.
    if (counts.queries, counts.answers, counts.authorities) != (1, 0, 0) {
        return Err(Outcome::Malformed);
    }
    let question = Query::read(decoder).map_err(|_| Outcome::Malformed)?;
    for _ in 0..counts.additionals {
        let record = Record::<RData>::read(decoder).map_err(|_| Outcome::Malformed)?;
        if record.record_type() != RecordType::OPT {
            continue;
        }
        // One, and of the root (RFC 6891 §6.1.1, §6.1.2).
        let is_sound = asking.edns.is_none() && record.name.is_root();
        match (&record.data, is_sound) {
            (RData::OPT(_) | RData::Update0(_), true) => asking.edns = Some(Edns::from(&record)),
            _ => return Err(Outcome::Malformed),
        }
    }
    if !decoder.is_empty() {
        return Err(Outcome::Malformed);
    }
    asking.question = Some(question);
    match &asking.edns {
        Some(edns) if edns.version() != 0 => Err(Outcome::BadVersion),
        _ => Ok(()),
    }
}

/// Puts the records of the answer into `message`.
fn fill(message: &mut Message, question: &Query, zones: &Zones, ttl: u32) -> Outcome {
    let name = DnsName::from_labels(question.name().iter());
    // The root has no labels, and is not ours.
    let (Some(name), Some(asked)) = (name, asked(question)) else { return Outcome::Refused };
    let owner = question.name();
    let answer = zones.answer(&name, asked);
    message.metadata.authoritative = !matches!(answer, Answer::Refused | Answer::NotLoaded);
    match answer {
        Answer::Refused => Outcome::Refused,
        Answer::NotLoaded => Outcome::NotLoaded,
        Answer::NoName(zone) => {
            message.authorities.extend(soa(zone, owner, ttl));
            Outcome::NoName
        }
        Answer::NoData(zone) => {
            message.authorities.extend(soa(zone, owner, ttl));
            Outcome::NoData
        }
        Answer::V4(ips) => {
            let record = |ip: &_| Record::from_rdata(owner.clone(), ttl, RData::A(A(*ip)));
            message.answers.extend(ips.iter().map(record));
            Outcome::Answered
        }
        Answer::V6(ips) => {
            let record = |ip: &_| Record::from_rdata(owner.clone(), ttl, RData::AAAA(AAAA(*ip)));
            message.answers.extend(ips.iter().map(record));
            Outcome::Answered
        }
        Answer::Soa(zone) => {
            message.answers.extend(soa(zone, owner, ttl));
            Outcome::Answered
        }
        Answer::Ns(_) => {
            let data = RData::NS(NS(owner.clone()));
            message.answers.push(Record::from_rdata(owner.clone(), ttl, data));
            Outcome::Answered
        }
    }
}

/// What is asked for; `None`: what is refused whatever the name.
fn asked(question: &Query) -> Option<Asked> {
    if question.query_class() != DNSClass::IN {
        return None;
    }
    Some(match question.query_type() {
        RecordType::A => Asked::A,
        RecordType::AAAA => Asked::Aaaa,
        RecordType::ANY => Asked::Any,
        RecordType::SOA => Asked::Soa,
        RecordType::NS => Asked::Ns,
        RecordType::AXFR | RecordType::IXFR => return None,
        _ => Asked::Other,
    })
}

/// The zone's start of authority. As RFC 6303 §3 has it for zones without servers of their own:
/// the suffix names itself, and nobody is responsible. The owner is the end of the name asked
/// for, so that it is written as that was.
fn soa(zone: &Zone, asked: &Name, ttl: u32) -> Option<Record> {
    let labels = u8::try_from(zone.apex().labels().count()).ok()?;
    let apex = asked.trim_to(labels.into());
    let nobody = Name::from_labels([&b"nobody"[..], b"invalid"]).ok()?;
    // Nobody transfers this zone: refresh, retry and expire are never used.
    let data = SOA::new(apex.clone(), nobody, zone.serial(), 3600, 1200, 604_800, ttl);
    Some(Record::from_rdata(apex, ttl, RData::SOA(data)))
}

/// Writes `message` into at most `room` bytes. When its answers do not fit, none is sent and the
/// client is told to come by TCP (RFC 2181 §9).
fn write(mut message: Message, room: u16, reply: &mut Vec<u8>) {
    if encode(&message, u16::MAX, reply) && reply.len() <= usize::from(room) {
        return;
    }
    message.answers.clear();
    message.authorities.clear();
    message.metadata.truncation = true;
    if !encode(&message, room, reply) {
        reply.clear();
    }
}

fn encode(message: &Message, room: u16, reply: &mut Vec<u8>) -> bool {
    reply.clear();
    let mut encoder = BinEncoder::new(reply);
    encoder.set_max_size(room);
    message.emit(&mut encoder).is_ok()
}

#[cfg(test)]
mod tests;
