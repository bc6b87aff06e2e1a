//! What the kernel is told, and what it lists. Must not know: connections.

use super::*;

#[test]
fn keepalive_is_set_however_odd_the_values_are() {
    let listener = listen(([127, 0, 0, 1], 0).into()).expect("bind");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
    let runtime = runtime.expect("a runtime");
    let _entered = runtime.enter();
    let (stream, _) = start_connect(listener.local_addr().expect("address"), b"").expect("one");
    let set = |seconds, probes| {
        let time = Some(Duration::from_secs_f64(seconds));
        let odd = Keepalive { time, interval: time, probes: Some(probes) };
        set_keepalive(&stream, odd).expect("set");
        let socket = SockRef::from(&stream);
        let interval = socket.tcp_keepalive_interval().expect("a time");
        let probes = socket.tcp_keepalive_retries().expect("a count");
        (socket.keepalive().expect("a switch"), interval.as_secs(), probes)
    };
    assert_eq!(set(0.01, 0), (true, 1, 1));
    assert_eq!(set(1e9, u32::MAX), (true, 32_767, 127));
}

#[test]
fn own_addresses_are_read_as_the_kernel_writes_them() {
    let trie = "Local:\n  +-- 10.0.0.0/8 2 0 2\n     |-- 10.0.0.0\n        /24 link UNICAST\n     \
                |-- 10.0.0.7\n        /32 host LOCAL\n";
    assert_eq!(local_of_fib_trie(trie), [IpAddr::from([10, 0, 0, 7])]);
    let inet6 = "fe800000000000000000000000000001 02 40 20 80     eth0\n";
    assert_eq!(local_of_if_inet6(inet6), ["fe80::1".parse::<IpAddr>().expect("an address")]);
    assert!(own_addresses().iter().all(|address| !address.is_loopback()));
}
