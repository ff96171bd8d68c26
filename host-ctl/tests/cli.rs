//! What is typed and what comes back, as it stands in `tests/cli/*.trycmd`: help, errors, exit codes and JSON shapes of
//! what needs no VM. After a wanted change: `TRYCMD=overwrite cargo test -p firstlight-host-ctl --test cli`.

#[test]
fn what_is_typed_gets_the_answer_on_file() {
    let state = tempfile::tempdir().expect("a temporary directory");
    let cases = trycmd::TestCases::new();
    cases
        .case("tests/cli/*.trycmd")
        .env("FIRSTLIGHT_STATE_DIR", state.path().to_str().expect("a path in UTF-8"))
        .env("NO_COLOR", "1")
        // Nothing is found in these, whatever the machine has.
        .env("FIRSTLIGHT_KERNEL", "/no/such/kernel")
        .env("FIRSTLIGHT_CACHE", "/no/such/cache")
        .env("FIRSTLIGHT_GUEST_DIR", "/no/such/guest");
    cases.run();
}
