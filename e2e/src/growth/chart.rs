//! A chart as SVG: numbers of Services on a logarithmic axis, what they cost on a linear one, or a logarithmic one where
//! the values are far apart.

use std::fmt::Write as _;

use super::report::grouped;

const WIDTH: f64 = 730.0;
const HEIGHT: f64 = 400.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 30.0;
const TOP: f64 = 70.0;
const BOTTOM: f64 = 55.0;

pub struct Chart {
    pub title: &'static str,
    /// The unit of the values, at the vertical axis.
    pub unit: &'static str,
    pub series: Vec<Series>,
}

pub struct Series {
    pub name: &'static str,
    pub colour: &'static str,
    /// A line to compare with, which nobody measured.
    pub dashed: bool,
    /// Numbers of Services, growing, with the values.
    pub points: Vec<(f64, f64)>,
}

/// Where the values are on the vertical axis.
enum Scale {
    Linear { top: f64, step: f64 },
    Logarithmic { bottom: f64, top: f64 },
}

impl Scale {
    fn of(values: &[f64]) -> Self {
        let top = values.iter().copied().fold(0.0, f64::max).max(1e-9);
        let least = values.iter().copied().fold(top, f64::min);
        if least > 0.0 && top / least > 50.0 {
            return Self::Logarithmic {
                bottom: 10_f64.powf(least.log10().floor()),
                top: 10_f64.powf(top.log10().ceil()),
            };
        }
        // The smallest of 1, 2, 5, 10 times a power of ten of which five reach the top.
        let power = 10_f64.powf((top / 5.0).log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|times| times * power);
        let step = step.into_iter().find(|step| step * 5.0 >= top);
        let step = step.unwrap_or(top);
        Self::Linear {
            top: step * (top / step).ceil(),
            step,
        }
    }

    fn ticks(&self) -> Vec<f64> {
        let mut ticks = Vec::new();
        match *self {
            Self::Linear { top, step } => {
                let mut tick = 0.0;
                while tick <= top + step / 2.0 {
                    ticks.push(tick);
                    tick += step;
                }
            }
            Self::Logarithmic { bottom, top } => {
                let mut tick = bottom;
                while tick <= top * 1.1 {
                    ticks.push(tick);
                    tick *= 10.0;
                }
            }
        }
        ticks
    }

    fn place(&self, value: f64) -> f64 {
        let share = match *self {
            Self::Linear { top, .. } => value / top,
            Self::Logarithmic { bottom, top } => {
                (value.max(bottom) / bottom).ln() / (top / bottom).ln()
            }
        };
        HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)
    }
}

impl Chart {
    /// The picture, the same for the same values.
    pub fn svg(&self) -> String {
        let all = || self.series.iter().flat_map(|series| series.points.iter());
        let mut numbers: Vec<f64> = all().map(|(number, _)| *number).collect();
        numbers.sort_by(f64::total_cmp);
        numbers.dedup();
        let first = numbers.first().copied().unwrap_or(1.0);
        let last = numbers.last().copied().unwrap_or(10.0).max(first * 1.1);
        let across = |number: f64| {
            LEFT + (number / first).ln() / (last / first).ln() * (WIDTH - LEFT - RIGHT)
        };
        let scale = Scale::of(&all().map(|(_, value)| *value).collect::<Vec<_>>());
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"13\">\n\
             <!-- Written by `make growth`. -->\n\
             <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
        );
        let mut text = |x: f64, y: f64, anchor: &str, more: &str, text: &str| {
            let _ = writeln!(
                svg,
                "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\"{more}>{text}</text>"
            );
        };
        text(LEFT, 24.0, "start", " font-size=\"16\"", self.title);
        let middle = LEFT + (WIDTH - LEFT - RIGHT) / 2.0;
        text(middle, HEIGHT - 12.0, "middle", "", "Services");
        let turned = format!(" transform=\"rotate(-90 18 {0})\"", HEIGHT / 2.0);
        text(18.0, HEIGHT / 2.0, "middle", &turned, self.unit);
        for tick in scale.ticks() {
            text(
                LEFT - 8.0,
                scale.place(tick) + 4.5,
                "end",
                "",
                &grouped(tick),
            );
        }
        for number in &numbers {
            let at = HEIGHT - BOTTOM + 20.0;
            text(across(*number), at, "middle", "", &grouped(*number));
        }
        for (index, series) in self.series.iter().enumerate() {
            let fill = format!(" fill=\"{}\"", series.colour);
            let at = LEFT + 215.0 * index as f64;
            text(at, 50.0, "start", &fill, series.name);
        }
        for tick in scale.ticks() {
            let y = scale.place(tick);
            let right = WIDTH - RIGHT;
            let _ = writeln!(
                svg,
                "<path d=\"M{LEFT:.1} {y:.1}H{right:.1}\" stroke=\"#dddddd\"/>"
            );
        }
        for series in &self.series {
            series.draw(&mut svg, across, &scale);
        }
        svg + "</svg>\n"
    }
}

impl Series {
    fn draw(&self, svg: &mut String, across: impl Fn(f64) -> f64, scale: &Scale) {
        let places: Vec<(f64, f64)> = self
            .points
            .iter()
            .map(|(number, value)| (across(*number), scale.place(*value)))
            .collect();
        let line: Vec<String> = places
            .iter()
            .map(|(x, y)| format!("{x:.1},{y:.1}"))
            .collect();
        let colour = self.colour;
        let dashes = if self.dashed {
            " stroke-dasharray=\"5 4\""
        } else {
            ""
        };
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"{dashes}/>",
            line.join(" ")
        );
        for (x, y) in places.iter().filter(|_| !self.dashed) {
            let _ = writeln!(
                svg,
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" fill=\"{colour}\"/>"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ticks_are_round_and_reach_the_top() {
        assert_eq!(
            Scale::of(&[3.0, 9.4]).ticks(),
            [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]
        );
        assert_eq!(
            Scale::of(&[410.0]).ticks(),
            [0.0, 100.0, 200.0, 300.0, 400.0, 500.0]
        );
        assert_eq!(
            Scale::of(&[4.0, 30_000.0]).ticks(),
            [1.0, 10.0, 100.0, 1e3, 1e4, 1e5]
        );
    }

    #[test]
    fn equal_factors_are_equally_far_apart_and_the_axes_meet_the_values() {
        let chart = Chart {
            title: "Time",
            unit: "µs",
            series: vec![Series {
                name: "a decision",
                colour: "#1f77b4",
                dashed: false,
                points: vec![(100.0, 0.0), (1000.0, 5.0), (10_000.0, 10.0)],
            }],
        };
        let svg = chart.svg();
        assert!(
            svg.contains("points=\"80.0,345.0 390.0,207.5 700.0,70.0\""),
            "{svg}"
        );
        assert_eq!(svg.matches("<circle").count(), 3);
        assert!(svg.contains(">10,000</text>"), "{svg}");
        assert!(svg.contains("`make growth`"), "it says what made it");
    }
}
