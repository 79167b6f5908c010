use super::*;

/// A component of a known world with this text in it.
fn guest(text: &str) -> Vec<u8> {
    let world = r#"(instance $world) (export "isomer:adapter/adapter@0.1.0" (instance $world))"#;
    wat::parse_str(format!("(component {text} {world})")).unwrap()
}

fn refusal(text: &str) -> String {
    check(&guest(text), &Limits::default()).unwrap_err().to_string()
}

/// A chain of components, each of which instantiates the one before twice, and an instance of the last.
fn doubling(levels: usize, between: &str) -> String {
    let mut text = "(component $c0)".to_owned();
    for level in 1..=levels {
        let before = level - 1;
        text.push_str(&format!(
            "(component $c{level} (alias outer 1 $c{before} (component $c)) {between}
                (instance (instantiate $c)) (instance (instantiate $c)))"
        ));
    }
    text + &format!("(instance (instantiate $c{levels}))")
}

#[test]
fn instances_are_counted_as_often_as_they_are_made() {
    assert!(
        refusal(&doubling(30, "")).contains("instances, nested ones counted each time; 2000 are allowed")
    );
    // Sums of more than 64 bits.
    assert!(refusal(&doubling(100, "")).contains("instances"));
    assert_eq!(check(&guest(&doubling(5, "")), &Limits::default()), Ok(()));
}

#[test]
fn an_exported_component_costs_what_it_cost_before() {
    let text = doubling(9, "") + r#"(export $e "e" (component $c9)) (instance (instantiate $e))"#;
    assert!(refusal(&text).contains("instances, nested ones counted each time"));
}

#[test]
fn items_of_instances_are_counted_as_often_as_the_instances_are_made() {
    let types = "(type (func))".repeat(400);
    assert!(refusal(&doubling(9, &types)).contains("of its instances; 100000 are allowed"));
}

#[test]
fn a_component_whose_cost_is_not_known_is_refused() {
    let imported = r#"(component (import "c" (component $c)) (instance (instantiate $c)))"#;
    assert!(refusal(imported).contains("a component is imported"));
    let taken = r#"(component $outer (component $c) (export "c" (component $c)))
        (instance $i (instantiate $outer)) (alias export $i "c" (component $taken))"#;
    assert!(refusal(taken).contains("taken from an instance"));
}

#[test]
fn components_nest_to_a_limit() {
    let nested = |depth: usize| "(component ".repeat(depth) + &")".repeat(depth);
    assert_eq!(check(&guest(&nested(15)), &Limits::default()), Ok(()));
    assert!(refusal(&nested(16)).contains("the component has 17 components in each other; 16 are allowed"));
    assert!(refusal(&"(component)".repeat(200)).contains("nested components"));
    assert!(refusal(&"(core module)".repeat(201)).contains("core modules"));
}

#[test]
fn the_place_of_a_function_is_named() {
    let text = format!("(core module) (core module (func) (func {}))", "(local i32)".repeat(5_001));
    assert_eq!(refusal(&text), "function 2 of module 2 has 5001 locals; 5000 are allowed");
    let loops =
        |depth: usize| format!("(core module (func {} {}))", "loop ".repeat(depth), "end ".repeat(depth));
    assert_eq!(check(&guest(&loops(64)), &Limits::default()), Ok(()));
    assert_eq!(refusal(&loops(65)), "function 1 of module 1 has 65 loops in each other; 64 are allowed");
    let product = format!("(core module (func {} {}))", "(local i32)".repeat(4_000), "loop end ".repeat(126));
    assert!(refusal(&product).contains("locals times loops; 500000 are allowed"));
}

#[test]
fn memory_that_no_call_gets_is_refused() {
    let text = "(core module (memory 1025))";
    assert_eq!(refusal(text), "module 1 has 67174400 bytes of memory at the start; 67108864 are allowed");
    assert!(refusal("(core module (table 20001 funcref))").contains("elements in a table"));
}

#[test]
fn world_and_imports_are_read_before_anything_is_compiled() {
    let bytes = wat::parse_str("(component)").unwrap();
    assert!(matches!(check(&bytes, &Limits::default()), Err(LoadError::World { .. })));
    assert!(refusal(r#"(import "evil:host/network" (instance))"#).contains("evil:host/network"));
    let wasi = r#"(import "wasi:sockets/tcp@0.2.0" (instance)) (instance $i) (export "other:world/world" (instance $i))"#;
    assert_eq!(check(&guest(wasi), &Limits::default()), Ok(()));
    let second = r#"(instance $i) (export "isomer:template/resolver@0.1.0" (instance $i))"#;
    assert!(refusal(second).contains("exactly one of"));
}

#[test]
fn bytes_that_end_early_are_refused_everywhere() {
    // Without identifiers, whose names would be a part that may be missing.
    let whole = wat::parse_str(
        r#"(component (core module (func (local i32) loop end)) (component (component))
            (instance) (export "isomer:adapter/adapter@0.1.0" (instance 0)))"#,
    )
    .unwrap();
    assert_eq!(check(&whole, &Limits::default()), Ok(()));
    for length in 0..whole.len() {
        assert!(check(&whole[..length], &Limits::default()).is_err(), "{length} bytes");
    }
}

#[test]
fn a_component_of_thirty_mebibytes_is_read_over() {
    let code = "i64.const 1 drop ".repeat(50_000);
    let text = format!("(core module {} (memory 1))", format!("(func {code})").repeat(100));
    let mut bytes = guest(&text);
    assert!(bytes.len() > 10 << 20, "{}", bytes.len());
    // Data, in a custom section of ten bytes less than there is room.
    let room = (32 << 20) - bytes.len() - 6;
    bytes.push(0);
    bytes.extend((0..4).map(|place| u8::try_from(room >> (7 * place) & 0x7f).unwrap() | 0x80));
    bytes.push(0);
    bytes.resize(32 << 20, 0);
    assert_eq!(check(&bytes, &Limits::default()), Ok(()));
    bytes.push(0);
    assert!(matches!(check(&bytes, &Limits::default()), Err(LoadError::TooLarge { .. })));
}
