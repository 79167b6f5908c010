//! Budgets, by a manual clock.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn per_minute(burst: u32) -> Quota {
    Quota::per_minute(NonZeroU32::new(burst).expect("positive"))
}

fn limiter(quota: Quota) -> (KeyedLimiter, FakeRelativeClock) {
    let clock = FakeRelativeClock::default();
    // Limiters may begin at any time.
    clock.advance(1_234 * SECOND);
    let rule =
        Rule { name: "test", quota, refusal: EXCEEDED, org_id: Some("org-1".to_owned()), enabled: true };
    (KeyedLimiter::new(rule, LimiterClock::Manual(clock.clone())), clock)
}

/// What an allowed caller reads: remaining and reset.
fn allowed(limiter: &KeyedLimiter, key: Key) -> (u32, u64) {
    let status = limiter.check(key).expect("allowed");
    (status.remaining, whole_seconds(status.reset))
}

/// What a refused caller reads: reset and retry-after.
fn refused(limiter: &KeyedLimiter, key: Key) -> (u64, u64) {
    let refusal = limiter.check(key).expect_err("refused");
    assert_eq!(refusal.status.remaining, 0);
    let response = refusal.into_response();
    let header = |name| response.headers()[name].to_str().expect("text").parse().expect("a number");
    (header(&RESET), header(&header::RETRY_AFTER))
}

fn key_of(headers: &[(HeaderName, &'static str)]) -> Key {
    let (limiter, _) = limiter(per_minute(1));
    limiter.credentials.0.set(Box::new(|bearer| bearer == "ours")).unwrap_or_else(|_| panic!("set once"));
    let map = headers.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value)));
    limiter.key(&map.collect(), Ipv4Addr::LOCALHOST.into())
}

#[test]
fn a_burst_and_then_one_at_a_time() {
    let (limiter, clock) = limiter(per_minute(6));
    let sent: Vec<_> = (0..6).map(|_| allowed(&limiter, Key::Org)).collect();
    assert_eq!(sent, [(5, 10), (4, 20), (3, 30), (2, 40), (1, 50), (0, 60)]);
    assert_eq!(refused(&limiter, Key::Org), (60, 10));
    clock.advance(9 * SECOND);
    assert_eq!(refused(&limiter, Key::Org), (51, 1));
    clock.advance(SECOND);
    assert_eq!(allowed(&limiter, Key::Org), (0, 60));
    assert_eq!(refused(&limiter, Key::Org), (60, 10));
    // Refusals cost nothing: a minute after the last request everything is as at the start.
    clock.advance(60 * SECOND);
    assert_eq!(allowed(&limiter, Key::Org), (5, 10));
}

#[test]
fn parts_of_a_second_count_as_a_whole_one() {
    let (limiter, clock) = limiter(per_minute(600));
    assert_eq!(allowed(&limiter, Key::Org), (599, 1));
    (1..600).for_each(|_| drop(limiter.check(Key::Org)));
    assert_eq!(refused(&limiter, Key::Org), (60, 1));
    clock.advance(Duration::from_millis(99));
    assert_eq!(refused(&limiter, Key::Org), (60, 1));
    clock.advance(Duration::from_millis(1));
    assert_eq!(allowed(&limiter, Key::Org), (0, 60));
}

#[test]
fn retry_after_is_never_zero() {
    let status = QuotaStatus { limit: UNLIMITED, remaining: 0, reset: Duration::ZERO };
    let refusal = Refusal { text: EXCEEDED, status, wait: Duration::ZERO };
    assert_eq!(refusal.into_response().headers()[header::RETRY_AFTER], "1");
}

#[test]
fn the_largest_and_the_smallest_quota_are_counted() {
    let (most, clock) = limiter(per_minute(u32::MAX));
    assert_eq!(allowed(&most, Key::Org).0, u32::MAX - 1);
    let (least, _) = limiter(per_minute(1));
    assert_eq!(allowed(&least, Key::Org), (0, 60));
    assert_eq!(refused(&least, Key::Org), (60, 60));
    // A year without a request, or with none but this.
    clock.advance(365 * 24 * 3_600 * SECOND);
    assert_eq!(allowed(&most, Key::Org).0, u32::MAX - 1);
}

#[test]
fn an_hour_is_a_real_hour() {
    let (limiter, clock) = limiter(Quota::per_hour(NonZeroU32::new(10).unwrap()));
    let sent: Vec<_> = (0..10).map(|_| allowed(&limiter, Key::Org)).collect();
    assert_eq!((sent[0], sent[9]), ((9, 360), (0, 3_600)));
    assert_eq!(refused(&limiter, Key::Org), (3_600, 360));
    // Ten idle minutes make no budget full before its time.
    clock.advance(11 * 60 * SECOND);
    limiter.forget_idle();
    assert_eq!(allowed(&limiter, Key::Org).0, 0);
    assert_eq!(refused(&limiter, Key::Org), (3_300, 60));
}

#[test]
fn callers_have_budgets_of_their_own() {
    let (limiter, _) = limiter(per_minute(1));
    let address = |last| Key::Address(Ipv4Addr::new(1, 1, 1, last).into());
    for key in [Key::Org, Key::Token([1; 32]), Key::Token([2; 32]), address(1), address(2)] {
        allowed(&limiter, key);
        refused(&limiter, key);
    }
}

#[test]
fn idle_callers_are_forgotten() {
    let (limiter, clock) = limiter(per_minute(600));
    allowed(&limiter, Key::Token([1; 32]));
    limiter.forget_idle();
    assert_eq!(limiter.budgets.len(), 1, "it is in use");
    clock.advance(10 * 60 * SECOND);
    allowed(&limiter, Key::Token([2; 32]));
    limiter.forget_idle();
    assert_eq!(limiter.budgets.len(), 1, "only the other one");
    assert_eq!(allowed(&limiter, Key::Token([2; 32])).0, 598);
}

#[test]
fn made_up_keys_do_not_bring_back_a_used_up_budget() {
    let (limiter, clock) = limiter(per_minute(600));
    let token = |number: u32| {
        let mut hash = [0; 32];
        hash[..4].copy_from_slice(&number.to_be_bytes());
        Key::Token(hash)
    };
    (0..600).for_each(|_| drop(limiter.check(token(0))));
    let capacity = u32::try_from(table::CAPACITY).expect("small");
    for number in 1..capacity * 3 / 2 {
        clock.advance(Duration::from_nanos(1));
        assert_eq!(allowed(&limiter, token(number)).0, 599);
    }
    assert!(limiter.budgets.len() <= table::CAPACITY);
    refused(&limiter, token(0));
}

#[test]
fn keys_by_table() {
    let token = |token: &str| Key::Token(Sha256::digest(token).into());
    let address = Key::Address(Ipv4Addr::LOCALHOST.into());
    let auth = header::AUTHORIZATION;
    for (headers, expected) in [
        (&[][..], address),
        (&[(auth.clone(), "Bearer abc")], token("abc")),
        (&[(auth.clone(), "bearer abc")], token("abc")),
        (&[(auth.clone(), "BEARER  abc ")], token("abc")),
        (&[(auth.clone(), "Bearer ABC")], token("ABC")),
        (&[(auth.clone(), "Basic abc")], address),
        (&[(auth.clone(), "Bearer")], address),
        (&[(auth.clone(), "Bearer  ")], address),
        // The organization's budget is for its credentials: naming it is no proof.
        (&[(ORG_ID, "org-1")], address),
        (&[(ORG_ID, "org-1"), (auth.clone(), "Bearer ours")], Key::Org),
        (&[(ORG_ID, " org-1 "), (auth.clone(), "bearer  ours ")], Key::Org),
        (&[(ORG_ID, "org-1"), (auth.clone(), "Bearer abc")], token("abc")),
        (&[(ORG_ID, "ORG-1"), (auth.clone(), "Bearer ours")], token("ours")),
        (&[(ORG_ID, "org-2")], address),
        (&[(ORG_ID, " ")], address),
        (&[(HeaderName::from_static("x-forwarded-for"), "1.2.3.4")], address),
    ] {
        assert_eq!(key_of(headers), expected, "{headers:?}");
    }
}

#[test]
fn without_an_organisation_of_ours_none_counts() {
    let limits = RateLimits::new(&HttpSettings::from_flags([]).expect("valid"), false);
    let headers = |id| [(ORG_ID, HeaderValue::from_static(id))].into_iter().collect();
    for id in ["", " ", "org-1"] {
        let key = limits.callers.key(&headers(id), Ipv4Addr::LOCALHOST.into());
        assert_eq!(key, Key::Address(Ipv4Addr::LOCALHOST.into()), "{id:?}");
    }
}

#[test]
fn the_ceiling_is_ten_budgets_even_of_the_largest() {
    for (flag, ceiling) in [("60", 600), ("4294967295", u32::MAX)] {
        let settings = HttpSettings::from_flags(["--rate-limit", flag]).expect("valid");
        let limits = RateLimits::new(&settings, false);
        assert_eq!(limits.ceiling.rule.quota.burst_size().get(), ceiling);
        assert_eq!(limits.callers.limit, flag);
    }
}
