use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const RATES: CallsPerSecond = CallsPerSecond {
    direct_methods: 40,
    twin_reads: 100,
    twin_updates: 50,
};

#[expect(
    clippy::unnecessary_wraps,
    reason = "an asker is what every caller wants"
)]
fn session(number: u64) -> Asker {
    let mut random = [0; 10];
    random[2..].copy_from_slice(&number.to_be_bytes());
    Some(SessionId::issue(0, random))
}

/// A bucket of direct methods, and a time that moves only when told.
struct Bed {
    bucket: Bucket,
    now: Instant,
}

impl Bed {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            bucket: Bucket::new(RATES.direct_methods, now),
            now,
        }
    }

    fn take(&mut self, asker: Asker) -> Result<(), Refused> {
        self.bucket.take(asker, 1, self.now)
    }

    /// How many of `calls` pass at this moment.
    fn passed(&mut self, asker: Asker, calls: usize) -> usize {
        (0..calls).filter(|_| self.take(asker).is_ok()).count()
    }

    fn after_ms(&mut self, ms: u64) {
        self.now += Duration::from_millis(ms);
    }
}

#[test]
fn a_burst_of_one_session_passes_and_leaves_something_for_another() {
    let mut bed = Bed::new();
    assert_eq!(bed.passed(session(1), 60), 60);
    assert!(bed.take(session(1)).is_err());
    assert_eq!(bed.passed(session(2), 5), 5);
}

#[test]
fn a_refused_call_passes_when_it_is_tried_again_after_the_time_told() {
    let mut bed = Bed::new();
    bed.passed(session(1), 1000);
    let refused = bed.take(session(1)).unwrap_err();
    bed.after_ms(refused.retry_after_s * 1000);
    assert_eq!(bed.take(session(1)), Ok(()));
}

#[test]
fn a_session_that_is_alone_gets_the_whole_rate() {
    let mut bed = Bed::new();
    bed.passed(session(1), 1000);
    let mut passed = 0;
    for _ in 0..1000 {
        bed.after_ms(10);
        passed += bed.passed(session(1), 5);
    }
    assert!((399..=401).contains(&passed), "{passed} in 10 s");
}

#[test]
fn a_large_call_costs_more_and_never_more_than_the_bucket_holds() {
    let mut bed = Bed::new();
    assert_eq!(bed.bucket.take(session(1), 32, bed.now), Ok(()));
    assert_eq!(bed.bucket.take(session(1), 32, bed.now), Ok(()));
    assert!(bed.bucket.take(session(1), 32, bed.now).is_err());
    let mut bed = Bed::new();
    assert_eq!(bed.bucket.take(session(1), u32::MAX, bed.now), Ok(()));
    assert!(bed.take(session(1)).is_err());
}

#[test]
fn kinds_do_not_touch_each_other() {
    let now = Instant::now();
    let mut budget = Budget::new(RATES, now);
    while budget.take(Kind::DirectMethod, None, 1, now).is_ok() {}
    assert_eq!(budget.take(Kind::TwinRead, None, 1, now), Ok(()));
    assert_eq!(budget.take(Kind::TwinUpdate, None, 1, now), Ok(()));
}

#[test]
fn sessions_beyond_the_bound_share_an_account_and_those_that_left_are_forgotten() {
    let mut bed = Bed::new();
    for number in 0..SESSIONS_MAX as u64 + 100 {
        let _ = bed.take(session(number));
    }
    assert_eq!(bed.bucket.accounts.len(), SESSIONS_MAX);
    assert!(bed.bucket.shared_account.is_some());
    bed.after_ms(11_000);
    assert_eq!(bed.take(session(7)), Ok(()));
    assert_eq!(bed.bucket.accounts.len(), 1);
    assert!(bed.bucket.shared_account.is_none());
}

#[test]
fn many_sessions_that_all_want_more_get_about_the_same() {
    let mut bed = Bed::new();
    let mut passed = [0_u32; 20];
    // Those with low numbers always come first.
    for _ in 0..6000 {
        bed.after_ms(10);
        for (number, passed) in passed.iter_mut().enumerate() {
            if bed.take(session(number as u64)).is_ok() {
                *passed += 1;
            }
        }
    }
    let (least, most) = (passed.iter().min().unwrap(), passed.iter().max().unwrap());
    // 40 a second for 60 s, by 20.
    assert!(*least >= 100 && *most <= 160, "{passed:?}");
}

#[derive(Clone, Debug)]
enum Step {
    Wait { ms: u64 },
    Call { session: u64, cost: u32 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0_u64..2000).prop_map(|ms| Step::Wait { ms }),
        (0_u64..6, 1_u32..40).prop_map(|(session, cost)| Step::Call { session, cost }),
        (0_u64..6).prop_map(|session| Step::Call { session, cost: 1 }),
    ]
}

proptest! {
    #[test]
    fn never_more_is_taken_than_was_there_and_has_flowed_in(steps in vec(step(), 1..300)) {
        let mut bed = Bed::new();
        let start = bed.now;
        let mut taken = 0.0;
        for step in steps {
            match step {
                Step::Wait { ms } => bed.after_ms(ms),
                Step::Call { session: number, cost } => {
                    if bed.bucket.take(session(number), cost, bed.now).is_ok() {
                        taken += f64::from(cost);
                    }
                    let flowed_in = (bed.now - start).as_secs_f64() * 40.0;
                    prop_assert!(taken <= 80.0 + flowed_in + 1e-6);
                    prop_assert!(bed.bucket.level >= 0.0);
                }
            }
        }
    }

    /// Whatever the greedy do, and however many they are.
    #[test]
    fn a_session_that_calls_no_more_than_its_share_is_not_refused_because_of_greedy_ones(
        greedy in 1_u64..8,
        greedy_first in any::<bool>(),
        greedy_calls in 1_usize..20,
        jitter in vec(0_u64..20, 400),
    ) {
        let mut bed = Bed::new();
        let modest = session(99);
        // Everybody is known before it counts: until then a share is larger than it will be.
        bed.take(modest).unwrap();
        for number in 0..greedy {
            bed.passed(session(number), 100);
        }
        bed.after_ms(3000);
        // One call in one and a half times what its share would allow.
        let every_ms = (greedy + 1) * 1000 * 3 / 80;
        for jitter in jitter {
            for _ in 0..2 {
                bed.after_ms(every_ms / 2 + jitter);
                if greedy_first {
                    for number in 0..greedy {
                        bed.passed(session(number), greedy_calls);
                    }
                }
            }
            prop_assert_eq!(bed.take(modest), Ok(()));
            if !greedy_first {
                for number in 0..greedy {
                    bed.passed(session(number), greedy_calls);
                }
            }
        }
    }
}
