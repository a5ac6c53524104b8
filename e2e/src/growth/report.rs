//! The table and the charts of docs/benchmarks.md.

use anyhow::{Context, Result};

use super::chart::{Chart, Series};
use super::measure::Point;

const BEGIN: &str = "<!-- Written by `make growth`, to the end mark. -->\n";
const END: &str = "<!-- The end of what `make growth` writes. -->\n";

/// A picture with its place below docs/.
pub struct Picture {
    pub path: &'static str,
    pub svg: String,
}

/// What stands between the marks: the pictures, the table, and how times grow beside log n.
pub fn section(points: &[Point]) -> String {
    let mut lines = vec![
        "![Time per decision](images/growth-time.svg)\n".to_owned(),
        "![Memory per Service](images/growth-memory.svg)\n".to_owned(),
        "| Services | a new Service, µs | deletion and hand-over, µs | store, bytes per Service | allocator, bytes per Service | both, MB |".to_owned(),
        "|---|---|---|---|---|---|".to_owned(),
    ];
    for point in points {
        let number = point.services as f64;
        let both = (point.store + point.allocator) * number / 1e6;
        lines.push(format!(
            "| {} | {:.1} | {:.1} | {:.0} | {:.0} | {both:.1} |",
            grouped(number),
            point.new,
            point.hand_over,
            point.store,
            point.allocator,
        ));
    }
    if let (Some(first), Some(last)) = (points.first(), points.last()) {
        let (few, many) = (first.services as f64, last.services as f64);
        lines.push(format!(
            "\nFrom {} to {} Services a new one takes {:.1} times as long, a deletion with hand-over {:.1} times; log n grows {:.1} times.",
            grouped(few),
            grouped(many),
            last.new / first.new,
            last.hand_over / first.hand_over,
            many.ln() / few.ln(),
        ));
    }
    lines.join("\n") + "\n"
}

/// The document with another section between its marks.
pub fn put(document: &str, section: &str) -> Result<String> {
    let (before, rest) = document.split_once(BEGIN).context("no begin mark")?;
    let (_, after) = rest.split_once(END).context("no end mark")?;
    Ok(format!("{before}{BEGIN}\n{section}\n{END}{after}"))
}

pub fn pictures(points: &[Point]) -> [Picture; 2] {
    let series = |name, colour, value: fn(&Point) -> f64| Series {
        name,
        colour,
        dashed: false,
        points: points
            .iter()
            .map(|p| (p.services as f64, value(p)))
            .collect(),
    };
    // What the first figure would become if it grew as log n does.
    let logarithm = points.first().map_or_else(Vec::new, |first| {
        let share = first.new / (first.services as f64).ln();
        let at = |point: &Point| (point.services as f64, share * (point.services as f64).ln());
        points.iter().map(at).collect()
    });
    let time = Chart {
        title: "Time per decision, 50 pools",
        unit: "µs, median",
        series: vec![
            series("a new Service", "#1f77b4", |p| p.new),
            series("deletion and hand-over", "#d62728", |p| p.hand_over),
            Series {
                name: "log n",
                colour: "#888888",
                dashed: true,
                points: logarithm,
            },
        ],
    };
    let memory = Chart {
        title: "Memory per Service",
        unit: "bytes",
        series: vec![
            series("the operator's store", "#1f77b4", |p| p.store),
            series("the allocator", "#d62728", |p| p.allocator),
            series("both", "#2ca02c", |p| p.store + p.allocator),
        ],
    };
    [
        Picture {
            path: "images/growth-time.svg",
            svg: time.svg(),
        },
        Picture {
            path: "images/growth-memory.svg",
            svg: memory.svg(),
        },
    ]
}

/// A number with commas between its thousands; below ten with as many places as it needs, up to three.
pub fn grouped(number: f64) -> String {
    if number < 10.0 {
        let text = format!("{number:.3}");
        return text.trim_end_matches('0').trim_end_matches('.').to_owned();
    }
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        let numbers = [0.0, 0.5, 7.0, 100.0, 50_000.0, 1_234_567.0];
        assert_eq!(
            numbers.map(grouped),
            ["0", "0.5", "7", "100", "50,000", "1,234,567"]
        );
    }

    #[test]
    fn only_what_is_between_the_marks_is_replaced() {
        let document = format!("before\n{BEGIN}old\n{END}after\n");
        let once = put(&document, "new\n").unwrap();
        assert_eq!(once, format!("before\n{BEGIN}\nnew\n\n{END}after\n"));
        assert_eq!(put(&once, "new\n").unwrap(), once);
        assert!(put("no marks", "new").is_err());
    }

    #[test]
    fn the_document_has_the_marks() {
        let document = include_str!("../../../docs/benchmarks.md");
        assert!(put(document, "").is_ok());
    }

    #[test]
    fn the_table_says_how_times_grow_beside_log_n() {
        let point = |services, new, hand_over| Point {
            services,
            new,
            hand_over,
            store: 600.0,
            allocator: 200.0,
        };
        let section = section(&[point(100, 2.0, 4.0), point(10_000, 3.0, 10.0)]);
        assert!(
            section.contains("| 10,000 | 3.0 | 10.0 | 600 | 200 | 8.0 |"),
            "{section}"
        );
        assert!(
            section.contains("a new one takes 1.5 times as long, a deletion with hand-over 2.5 times; log n grows 2.0 times"),
            "{section}"
        );
    }
}
