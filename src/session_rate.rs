//! How fast one client address may create sessions, which anybody may do: a token bucket for each address, whichever way
//! the sessions are asked for.
//!
//! Memory is bounded: an address whose bucket is full again is forgotten, and while there are more addresses than
//! can be told apart, those that came last share one bucket.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Addresses that are told apart.
const ADDRESSES_MAX: usize = 16_384;

/// Shortest time between two sweeps for buckets that are full again.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// The buckets of all addresses.
#[derive(Debug)]
pub struct SessionRate {
    per_s: f64,
    burst: f64,
    buckets: Mutex<Buckets>,
}

#[derive(Debug, Default)]
struct Buckets {
    by_address: HashMap<IpAddr, Bucket>,
    shared: Option<Bucket>,
    swept_at: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: f64,
    filled_at: Instant,
}

/// The bucket is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Whole seconds until it holds a token again; at least one.
    pub retry_after_s: u64,
}

impl SessionRate {
    /// Buckets that hold `burst` tokens and get `per_s` each second; both at least one.
    pub fn new(per_s: u32, burst: u32) -> Self {
        Self {
            per_s: f64::from(per_s.max(1)),
            burst: f64::from(burst.max(1)),
            buckets: Mutex::default(),
        }
    }

    /// Takes one token from the bucket of `address`.
    pub fn take(&self, address: IpAddr, now: Instant) -> Result<(), Refused> {
        let address = network(address);
        let mut buckets = self.buckets.lock();
        let full = Bucket {
            tokens: self.burst,
            filled_at: now,
        };
        if !buckets.by_address.contains_key(&address) && buckets.by_address.len() >= ADDRESSES_MAX {
            self.sweep(&mut buckets, now);
        }
        let has_place =
            buckets.by_address.len() < ADDRESSES_MAX || buckets.by_address.contains_key(&address);
        let bucket = if has_place {
            buckets.by_address.entry(address).or_insert(full)
        } else {
            buckets.shared.get_or_insert(full)
        };
        bucket.tokens = self.tokens(bucket, now);
        bucket.filled_at = now;
        if bucket.tokens >= 1.0 {
            bucket.tokens -= 1.0;
            Ok(())
        } else {
            let wait = Duration::from_secs_f64((1.0 - bucket.tokens) / self.per_s);
            Err(Refused {
                retry_after_s: wait.as_secs() + 1,
            })
        }
    }

    fn sweep(&self, buckets: &mut Buckets, now: Instant) {
        if buckets
            .swept_at
            .is_some_and(|at| now.saturating_duration_since(at) < SWEEP_INTERVAL)
        {
            return;
        }
        buckets.swept_at = Some(now);
        buckets
            .by_address
            .retain(|_, bucket| self.tokens(bucket, now) < self.burst);
    }

    fn tokens(&self, bucket: &Bucket, now: Instant) -> f64 {
        let elapsed = now.saturating_duration_since(bucket.filled_at);
        (bucket.tokens + elapsed.as_secs_f64() * self.per_s).min(self.burst)
    }
}

/// What one client has for an address: with IPv6 that is a /64 network, of which it may use any address.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(
            address.to_bits() & !u128::from(u64::MAX),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: u32) -> IpAddr {
        IpAddr::V4(number.into())
    }

    #[test]
    fn a_burst_passes_and_one_more_waits_for_the_rate() {
        let rate = SessionRate::new(2, 3);
        let now = Instant::now();
        for _ in 0..3 {
            assert_eq!(rate.take(address(1), now), Ok(()));
        }
        assert_eq!(
            rate.take(address(1), now),
            Err(Refused { retry_after_s: 1 })
        );
        assert_eq!(
            rate.take(address(2), now),
            Ok(()),
            "another address has its own bucket"
        );
        let later = now + Duration::from_millis(500);
        assert_eq!(rate.take(address(1), later), Ok(()));
        assert!(rate.take(address(1), later).is_err());
    }

    #[test]
    fn a_network_of_ipv6_addresses_is_one_client() {
        let rate = SessionRate::new(1, 1);
        let now = Instant::now();
        assert_eq!(rate.take("2001:db8::1".parse().unwrap(), now), Ok(()));
        assert!(rate.take("2001:db8::2".parse().unwrap(), now).is_err());
        assert_eq!(rate.take("2001:db8:0:1::1".parse().unwrap(), now), Ok(()));
        assert_eq!(rate.take("::ffff:10.0.0.1".parse().unwrap(), now), Ok(()));
        assert!(rate.take("10.0.0.1".parse().unwrap(), now).is_err());
    }

    #[test]
    fn addresses_beyond_the_bound_share_a_bucket_until_others_have_recovered() {
        let rate = SessionRate::new(1, 1);
        let now = Instant::now();
        let many = u32::try_from(ADDRESSES_MAX).unwrap();
        for number in 0..many {
            assert_eq!(rate.take(address(number), now), Ok(()));
        }
        assert_eq!(rate.take(address(many), now), Ok(()));
        assert!(rate.take(address(many + 1), now).is_err());
        assert!(rate.buckets.lock().by_address.len() <= ADDRESSES_MAX);

        let later = now + Duration::from_secs(2);
        assert_eq!(rate.take(address(many + 1), later), Ok(()));
        assert_eq!(rate.buckets.lock().by_address.len(), 1);
    }
}
