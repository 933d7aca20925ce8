//! `gateway admin usage plot`: a picture of a report as SVG.

use std::collections::BTreeMap;
use std::ops::Range;

use argh::FromArgs;
use plotters::prelude::*;
use serde_json::Value;

use super::admin::Open;
use super::failure::Failure;
use super::input::date;

const SIZE: (u32, u32) = (1200, 600);
/// Layers of a stack; the smallest ones are one layer.
const MAX_LAYERS: usize = 10;
const OTHER: &str = "other";
/// Days of one picture.
const MAX_DAYS: usize = 800;
const MAX_NAME_CHARS: usize = 48;
/// A quadrillion, the highest amount of money.
const MAX_VALUE: f64 = 1e15;

/// Draw spend or latencies by day as an SVG file.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "plot",
    help_triggers("-h", "--help"),
    example = "{command_name} --file spend.svg\n{command_name} --by user --from 2027-01-01 --to 2027-01-31 --file users.svg\n\
    {command_name} --what latency --account main --file latency.svg",
    note = "Spend is what is known of it: calls without a known price are not in it."
)]
pub struct Plot {
    /// spend (default): dollars by day, stacked; or latency: the median and the 95th of a hundred calls by day
    #[argh(option, arg_name = "figure", default = "What::Spend")]
    what: What,

    /// what the stack is made of: model (default), user, virtual-account, team or account
    #[argh(option, arg_name = "group", default = "Layer::Model")]
    by: Layer,

    /// first day that is drawn, such as 2027-01-01
    #[argh(option, arg_name = "date", from_str_fn(date))]
    from: Option<String>,

    /// last day that is drawn
    #[argh(option, arg_name = "date", from_str_fn(date))]
    to: Option<String>,

    /// only of those in this team
    #[argh(option, arg_name = "team")]
    team: Option<String>,

    /// only on this provider account
    #[argh(option, arg_name = "account")]
    account: Option<String>,

    /// the file to write; '-' (default) is standard output
    #[argh(option, arg_name = "file", default = "\"-\".to_owned()")]
    file: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, argh::FromArgValue)]
enum What {
    Spend,
    Latency,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, argh::FromArgValue)]
enum Layer {
    Model,
    User,
    VirtualAccount,
    Team,
    Account,
}

impl Layer {
    /// The word of the API, and the member of its answer.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Model => ("model", "model"),
            Self::User => ("user", "user"),
            Self::VirtualAccount => ("virtual-account", "virtualAccount"),
            Self::Team => ("team", "team"),
            Self::Account => ("account", "account"),
        }
    }
}

/// Lines or layers by day. Floats are for the pixels only: sums of money are made elsewhere.
#[derive(Debug, Default, PartialEq)]
struct Chart {
    days: Vec<String>,
    /// Name, and a value a day.
    series: Vec<(String, Vec<f64>)>,
}

impl Plot {
    /// Draws it.
    ///
    /// # Errors
    /// Why not.
    pub fn run(self, open: Open<'_>) -> Result<(), Failure> {
        let context = open()?;
        let (word, member) = self.by.words();
        let by = match self.what {
            What::Spend => format!("day,{word}"),
            What::Latency => "day".to_owned(),
        };
        let parameters = [
            ("by", Some(by.as_str())),
            ("from", self.from.as_deref()),
            ("to", self.to.as_deref()),
            ("team", self.team.as_deref()),
            ("account", self.account.as_deref()),
        ];
        let rows = context.client.list("/usage/report", &parameters)?;
        let svg = match self.what {
            What::Spend => draw(&spend(&rows, member), "Spend by day, US dollars", true),
            What::Latency => draw(&latency(&rows), "Latency by day, milliseconds", false),
        };
        let svg = svg.map_err(|why| Failure::Input(format!("the picture can not be drawn: {why}")))?;
        if self.file == "-" {
            return context.output.print(&svg);
        }
        std::fs::write(&self.file, svg).map_err(Failure::Output)?;
        context.output.done(&format!("Wrote {}.", self.file), &serde_json::json!({"file": self.file}))
    }
}

fn word<'r>(row: &'r Value, member: &str) -> &'r str {
    row.get(member).and_then(Value::as_str).unwrap_or_default()
}

/// What an axis can be drawn for: the crate looks for its marks for ever where there is no end.
fn drawable(value: f64) -> f64 {
    if value.is_finite() { value.clamp(0.0, MAX_VALUE) } else { 0.0 }
}

/// The last days there are.
fn days(rows: &[Value]) -> Vec<String> {
    let mut days: Vec<String> = rows.iter().map(|row| word(row, "day").to_owned()).collect();
    days.sort();
    days.dedup();
    days.split_off(days.len().saturating_sub(MAX_DAYS))
}

/// Layers of spend, the largest first.
fn spend(rows: &[Value], member: &str) -> Chart {
    let days = days(rows);
    let mut layers: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for row in rows {
        let cost = drawable(word(row, "cost").parse().unwrap_or(0.0));
        let Ok(place) = days.binary_search_by(|day| day.as_str().cmp(word(row, "day"))) else { continue };
        let layer = layers.entry(word(row, member)).or_insert_with(|| vec![0.0; days.len()]);
        if let Some(value) = layer.get_mut(place) {
            *value += cost;
        }
    }
    let total = |values: &[f64]| values.iter().sum::<f64>();
    let mut series: Vec<(String, Vec<f64>)> = layers
        .into_iter()
        .filter(|(_, values)| total(values) > 0.0)
        .map(|(name, values)| (if name.is_empty() { "(none)" } else { name }.to_owned(), values))
        .collect();
    series.sort_by(|one, other| total(&other.1).total_cmp(&total(&one.1)));
    if series.len() > MAX_LAYERS {
        let rest = series.split_off(MAX_LAYERS - 1);
        let sum = |place: usize| rest.iter().filter_map(|(_, values)| values.get(place)).sum();
        series.push((OTHER.to_owned(), (0..days.len()).map(sum).collect()));
    }
    Chart { days, series }
}

fn latency(rows: &[Value]) -> Chart {
    let days = days(rows);
    let line = |member: &str| {
        let of_day = |day: &String| rows.iter().find(|row| word(row, "day") == day);
        let value = |day: &String| of_day(day).and_then(|row| row.get(member)).and_then(Value::as_f64);
        days.iter().map(|day| drawable(value(day).unwrap_or(0.0))).collect()
    };
    let series = [("half of the calls", "latencyMsP50"), ("95 of a hundred", "latencyMsP95")]
        .map(|(name, member)| (name.to_owned(), line(member)))
        .to_vec();
    Chart { days, series }
}

/// Colours that are told apart in print too.
const COLOURS: [RGBColor; MAX_LAYERS] = [
    RGBColor(31, 119, 180),
    RGBColor(255, 127, 14),
    RGBColor(44, 160, 44),
    RGBColor(214, 39, 40),
    RGBColor(148, 103, 189),
    RGBColor(140, 86, 75),
    RGBColor(227, 119, 194),
    RGBColor(127, 127, 127),
    RGBColor(188, 189, 34),
    RGBColor(23, 190, 207),
];

fn draw(chart: &Chart, title: &str, stacked: bool) -> Result<String, String> {
    let failed = |error: &dyn std::fmt::Display| error.to_string();
    let mut svg = String::new();
    let end = chart.days.len().max(1);
    let heights = (0..end).map(|day| {
        let values = chart.series.iter().filter_map(|(_, values)| values.get(day).copied());
        if stacked { values.sum::<f64>() } else { values.fold(0.0, f64::max) }
    });
    let highest = heights.fold(0.0, f64::max);
    let highest = if highest > 0.0 { highest * 1.1 } else { 1.0 };
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        root.fill(&WHITE).map_err(|error| failed(&error))?;
        let range: Range<f64> = 0.0..f64::from(u32::try_from(end).unwrap_or(u32::MAX));
        let mut area = ChartBuilder::on(&root)
            .caption(title, ("sans-serif", 22))
            .margin(12)
            .x_label_area_size(36)
            .y_label_area_size(72)
            .build_cartesian_2d(range, 0.0..highest)
            .map_err(|error| failed(&error))?;
        let label = |value: &f64| {
            let whole = value.floor();
            let day = chart.days.iter().zip(0_u32..).find(|(_, number)| f64::from(*number) == whole);
            day.map_or_else(String::new, |(day, _)| day.clone())
        };
        area.configure_mesh()
            .disable_x_mesh()
            .x_labels((end + 1).min(11))
            .x_label_formatter(&label)
            .draw()
            .map_err(|error| failed(&error))?;
        let mut bases = vec![0.0; end];
        for ((name, values), colour) in chart.series.iter().zip(COLOURS) {
            let shown: String = name.chars().take(MAX_NAME_CHARS).collect();
            let places = values.iter().zip(0_u32..).map(|(value, day)| (f64::from(day), *value));
            let drawn = if stacked {
                let bars = places.zip(bases.iter_mut()).filter(|((_, value), _)| *value > 0.0).map(
                    |((day, value), base)| {
                        let low = *base;
                        *base += value;
                        Rectangle::new([(day + 0.1, low), (day + 0.9, *base)], colour.filled())
                    },
                );
                area.draw_series(bars)
            } else {
                area.draw_series(LineSeries::new(
                    places.map(|(day, value)| (day + 0.5, value)),
                    colour.stroke_width(2),
                ))
            };
            drawn
                .map_err(|error| failed(&error))?
                .label(shown)
                .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 12, y + 5)], colour.filled()));
        }
        area.configure_series_labels()
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK)
            .draw()
            .map_err(|error| failed(&error))?;
        root.present().map_err(|error| failed(&error))?;
    }
    Ok(svg)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn spend_is_stacked_by_size_and_the_rest_is_one_layer() {
        let mut rows = vec![
            json!({"day": "2027-01-02", "model": "main/big", "cost": "10.5"}),
            json!({"day": "2027-01-01", "model": "main/big", "cost": "1"}),
            json!({"day": "2027-01-01", "model": "main/none", "cost": null}),
        ];
        rows.extend(
            (0..12).map(|n| json!({"day": "2027-01-01", "model": format!("main/{n:02}"), "cost": "0.5"})),
        );
        let chart = spend(&rows, "model");
        assert_eq!(chart.days, ["2027-01-01", "2027-01-02"]);
        assert_eq!(chart.series[0], ("main/big".to_owned(), vec![1.0, 10.5]));
        assert_eq!(chart.series.len(), MAX_LAYERS);
        assert_eq!(chart.series[MAX_LAYERS - 1], (OTHER.to_owned(), vec![2.0, 0.0]));
        let svg = draw(&chart, "Spend", true).unwrap();
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"), "{svg}");
        for part in ["main/big", "2027-01-01", OTHER, "Spend"] {
            assert!(svg.contains(part), "{part}");
        }
    }

    #[test]
    fn pictures_of_nothing_and_of_hostile_names() {
        for stacked in [true, false] {
            assert!(draw(&Chart::default(), "x", stacked).unwrap().ends_with("</svg>\n"));
        }
        let rows = [
            json!({"day": "2027-01-01", "user": "<script>&\"\u{0}'".repeat(1000), "cost": "1e999"}),
            json!({"day": "2027-01-01", "user": "<b>", "cost": "3"}),
            json!([]),
            json!({"day": 4}),
        ];
        let svg = draw(&spend(&rows[1..], "user"), "x", true).unwrap();
        assert!(!svg.contains("<b>") && svg.contains("&lt;b&gt;"), "{svg}");
        let chart = spend(&rows, "user");
        assert!(draw(&chart, "x", true).is_ok_and(|svg| !svg.contains("<script>")));
    }

    #[test]
    fn latencies_are_two_lines() {
        let rows = [json!({"day": "2027-01-01", "latencyMsP50": 10, "latencyMsP95": 90})];
        let chart = latency(&rows);
        assert_eq!((&chart.series[0].1, &chart.series[1].1), (&vec![10.0], &vec![90.0]));
        assert!(draw(&chart, "Latency", false).unwrap().contains("95 of a hundred"));
    }
}
