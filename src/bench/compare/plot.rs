//! Bars and lines as SVG. Must not know: what they show.

use std::fmt::Write as _;

/// A named value with its spread.
pub(super) struct Bar {
    pub(super) name: &'static str,
    pub(super) color: &'static str,
    pub(super) value: f64,
    pub(super) min: f64,
    pub(super) max: f64,
    pub(super) label: String,
}

/// A named line.
pub(super) struct Line {
    pub(super) name: &'static str,
    pub(super) color: &'static str,
    pub(super) points: Vec<(f64, f64)>,
}

/// The axes of a plot of lines.
pub(super) struct Axes<'a> {
    pub(super) x: &'a str,
    pub(super) y: &'a str,
    /// Where the x axis is marked: at, words.
    pub(super) marks: Vec<(f64, String)>,
    pub(super) log_y: bool,
}

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 74.0;
const RIGHT: f64 = 92.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 46.0;
const BAR_HEIGHT: f64 = 30.0;

/// Bars that lie, from nought, with a whisker from least to most.
pub(super) fn bars(bars: &[Bar]) -> String {
    let most = bars.iter().map(|bar| bar.max).fold(f64::MIN_POSITIVE, f64::max);
    let height = bars.len() as f64 * BAR_HEIGHT + 8.0;
    let scale = (WIDTH - LEFT - RIGHT) / most;
    let mut svg = open(height);
    for (i, bar) in bars.iter().enumerate() {
        let (y, middle) = (i as f64 * BAR_HEIGHT + 6.0, i as f64 * BAR_HEIGHT + 17.0);
        let (end, low, high) =
            (LEFT + bar.value * scale, LEFT + bar.min * scale, LEFT + bar.max * scale);
        let _ = write!(
            svg,
            "<text class=name x={0} y={1} text-anchor=end>{2}</text>\
             <rect x={LEFT} y={y} width={3:.1} height=22 fill='{4}'/>\
             <path d='M{low:.1} {middle}H{high:.1}M{low:.1} {5}v8M{high:.1} {5}v8' \
             class=whisker /><text x={6:.1} y={1}>{7}</text>",
            LEFT - 8.0,
            middle + 4.0,
            bar.name,
            (end - LEFT).max(1.0),
            bar.color,
            middle - 4.0,
            end.max(high) + 6.0,
            bar.label,
        );
    }
    svg + "</svg>"
}

/// Lines, each with its name at its end.
pub(super) fn lines(lines: &[Line], axes: &Axes<'_>) -> String {
    let points = || lines.iter().flat_map(|line| line.points.iter().copied());
    let most_x = points().map(|p| p.0).fold(f64::MIN_POSITIVE, f64::max);
    let most_y = points().map(|p| p.1).fold(f64::MIN_POSITIVE, f64::max);
    let least_y = points().map(|p| p.1).fold(f64::MAX, f64::min).max(1e-9);
    let (low, high) = if axes.log_y {
        (least_y.log10().floor(), most_y.log10().ceil().max(least_y.log10().floor() + 1.0))
    } else {
        (0.0, most_y * 1.05)
    };
    let x = |value: f64| LEFT + value / most_x * (WIDTH - LEFT - RIGHT);
    let y = |value: f64| {
        let value = if axes.log_y { value.max(1e-9).log10() } else { value };
        HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM)
    };
    let mut svg = open(HEIGHT);
    for (value, words) in ticks(low, high, axes.log_y) {
        let _ = write!(
            svg,
            "<path d='M{LEFT} {0:.1}H{1}' class=grid /><text x={2} y={3:.1} text-anchor=end>{words}\
             </text>",
            y(value),
            WIDTH - RIGHT,
            LEFT - 6.0,
            y(value) + 4.0
        );
    }
    for (at, words) in &axes.marks {
        let _ = write!(
            svg,
            "<path d='M{0:.1} {TOP}V{1}' class=grid /><text x={0:.1} y={2} text-anchor=middle>\
             {words}</text>",
            x(*at),
            HEIGHT - BOTTOM,
            HEIGHT - BOTTOM + 16.0
        );
    }
    let mut names: Vec<(f64, &Line)> = Vec::new();
    for line in lines {
        let path: Vec<String> =
            line.points.iter().map(|(px, py)| format!("{:.1} {:.1}", x(*px), y(*py))).collect();
        let Some(last) = line.points.last() else { continue };
        let _ = write!(svg, "<path d='M{}' class=line stroke='{}'/>", path.join("L"), line.color);
        names.push((y(last.1), line));
    }
    svg.push_str(&name_lines(names));
    let _ = write!(
        svg,
        "<text x={0} y={1} text-anchor=middle>{2}</text>\
         <text transform='translate(14 {3}) rotate(-90)' text-anchor=middle>{4}</text></svg>",
        (LEFT + WIDTH - RIGHT) / 2.0,
        HEIGHT - 8.0,
        axes.x,
        (TOP + HEIGHT - BOTTOM) / 2.0,
        axes.y
    );
    svg
}

/// Names beside the ends of lines, pushed apart where they would cover each other.
fn name_lines(mut names: Vec<(f64, &Line)>) -> String {
    names.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut svg = String::new();
    let mut free = TOP;
    for (y, line) in names {
        let y = y.max(free);
        free = y + 14.0;
        let _ = write!(
            svg,
            "<text class=name x={} y={:.1} fill='{}'>{}</text>",
            WIDTH - RIGHT + 6.0,
            y + 4.0,
            line.color,
            line.name
        );
    }
    svg
}

fn ticks(low: f64, high: f64, log: bool) -> Vec<(f64, String)> {
    if log {
        let mut found = Vec::new();
        let mut power = low;
        while power <= high {
            found.push((10f64.powf(power), short(10f64.powf(power))));
            power += 1.0;
        }
        return found;
    }
    let rough = (high - low) / 5.0;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|m| m * power).into_iter().find(|s| *s >= rough);
    let step = step.unwrap_or(rough);
    let mut found = Vec::new();
    let mut value = 0.0;
    while value <= high {
        found.push((value, short(value)));
        value += step;
    }
    found
}

/// A number for an axis.
pub(super) fn short(value: f64) -> String {
    match value {
        v if v >= 1e6 => format!("{}M", trimmed(v / 1e6)),
        v if v >= 1e3 => format!("{}k", trimmed(v / 1e3)),
        v => trimmed(v),
    }
}

fn trimmed(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn open(height: f64) -> String {
    format!("<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {height}' role=img>")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_are_marked_at_round_numbers() {
        let words = |low, high, log| ticks(low, high, log).into_iter().map(|t| t.1).collect();
        let linear: Vec<String> = words(0.0, 23.0, false);
        assert_eq!(linear, ["0", "5", "10", "15", "20"]);
        let log: Vec<String> = words(1.0, 4.0, true);
        assert_eq!(log, ["10", "100", "1k", "10k"]);
    }
}
