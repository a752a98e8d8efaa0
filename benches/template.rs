//! Rendering speed: a payload of 1.9 kB with a list of 20 elements, and bare `mustache` beside it.
//!
//! `cargo bench --bench template`

// A benchmark may panic: that is how it fails.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use divan::Bencher;
use messenger_connector::template::{Date, Map, Mode, RenderOptions, Template, Value, Variables};

fn main() {
    eprintln!("the template has {} bytes", source().len());
    divan::main();
}

/// A generic template with a loop over the list, and enough buttons to come to 1.9 kB.
fn source() -> String {
    let buttons: String = (0..13)
        .map(|n| {
            format!(
                "{{\"type\":\"web_url\",\"title\":\"{{{{label{n}}}}}\",\"url\":\"https://shop.example.com/{{{{lang}}}}/b/{n}?ref={{{{campaign}}}}\"}},\n"
            )
        })
        .collect();
    format!(
        "{{\n  \"template_type\": \"generic\",\n  \"sharable\": true,\n  \"image_aspect_ratio\": \"square\",\n  \"elements\": [\n\
         {{{{#products}}}}\n    {{\n      \"title\": \"{{{{name}}}}\",\n      \"subtitle\": \"{{{{brand}}}} for {{{{price}}}} {{{{currency}}}}\",\n\
         \x20     \"image_url\": \"https://cdn.example.com/images/{{{{id}}}}.jpg\",\n\
         \x20     \"default_action\": {{\"type\": \"web_url\", \"url\": \"https://shop.example.com/{{{{lang}}}}/p/{{{{id}}}}\"}}\n\
         \x20   }},\n{{{{/products}}}}\n    {{\"title\": \"{{{{footer}}}}\", \"buttons\": [\n{buttons}      {{\"type\":\"web_url\",\"title\":\"{{{{label0}}}}\",\"url\":\"https://shop.example.com\"}}\n    ]}}\n  ]\n}}\n"
    )
}

fn variables() -> Variables {
    let product = |n: i64| {
        Value::from(Map::from_entries([
            ("id", Value::from(1000 + n)),
            ("name", Value::from(format!("Product \"number\" {n}"))),
            ("brand", Value::from("Brand & Sons")),
            ("price", Value::from("23.49")),
        ]))
    };
    let mut entries: Vec<(String, Value)> =
        (0..13).map(|n| (format!("label{n}"), Value::from(format!("Label {n}")))).collect();
    for (name, text) in [("lang", "en"), ("campaign", "summer-2026"), ("footer", "More"), ("currency", "EUR")]
    {
        entries.push((name.to_owned(), text.into()));
    }
    entries.push(("products".to_owned(), (0..20).map(product).collect::<Vec<_>>().into()));
    Variables::from_entries(entries).expect("names without dots")
}

fn options() -> RenderOptions {
    RenderOptions { strict: false, now: Date::from_epoch_ms(0).expect("1970 is a year") }
}

#[divan::bench(args = [Mode::Text, Mode::Json])]
fn render(bencher: Bencher<'_, '_>, mode: &Mode) {
    let template = Template::compile(&source(), *mode).expect("the template compiles");
    let (variables, options) = (variables(), options());
    bencher.bench(|| template.render(&variables, &options));
}

#[divan::bench(args = [Mode::Json])]
fn compile(bencher: Bencher<'_, '_>, mode: &Mode) {
    let source = source();
    bencher.bench(|| Template::compile(&source, *mode));
}

/// A text without tags.
#[divan::bench]
fn render_plain_text(bencher: Bencher<'_, '_>) {
    let template = Template::compile(&"x".repeat(2_000), Mode::Text).expect("the template compiles");
    let (variables, options) = (variables(), options());
    bencher.bench(|| template.render(&variables, &options));
}

/// A loop in a loop over 30,000 elements: how long it takes to refuse it.
#[divan::bench(args = ["{{#a}}{{#a}}{{/a}}{{/a}}", "{{#a}}{{#a}}{{#if x.y.z}}{{w}}{{/if}}{{/a}}{{/a}}", "{{#a}}{{#md5}}{{#a}}{{.}}{{/a}}{{/md5}}{{/a}}"])]
fn refuse_nested_loops(bencher: Bencher<'_, '_>, source: &str) {
    let template = Template::compile(source, Mode::Text).expect("the template compiles");
    let numbers: Vec<Value> = (0..30_000).map(Value::from).collect();
    let variables = Variables::from_entries([("a".to_owned(), numbers.into())]).expect("names without dots");
    let options = options();
    bencher.bench(|| assert!(template.render(&variables, &options).is_err()));
}

#[divan::bench]
fn mustache_crate_render(bencher: Bencher<'_, '_>) {
    let template = mustache::compile_str(&source()).expect("the template compiles");
    let data = mustache_data();
    bencher.bench_local(|| template.render_data_to_string(&data));
}

#[divan::bench]
fn mustache_crate_compile(bencher: Bencher<'_, '_>) {
    let source = source();
    bencher.bench(|| mustache::compile_str(&source));
}

/// The same data as `variables`.
fn mustache_data() -> mustache::Data {
    let mut builder = mustache::MapBuilder::new();
    for n in 0..11 {
        builder = builder.insert_str(format!("label{n}"), format!("Label {n}"));
    }
    for (name, text) in [("lang", "en"), ("campaign", "summer-2026"), ("footer", "More"), ("currency", "EUR")]
    {
        builder = builder.insert_str(name, text);
    }
    let product = |n: i32| {
        move |product: mustache::MapBuilder| {
            product
                .insert_str("id", (1000 + n).to_string())
                .insert_str("name", format!("Product \"number\" {n}"))
                .insert_str("brand", "Brand & Sons")
                .insert_str("price", "23.49")
        }
    };
    let products = |list: mustache::VecBuilder| (0..20).fold(list, |list, n| list.push_map(product(n)));
    builder.insert_vec("products", products).build()
}
