//! Goals as text. Must not know: how they are measured.

use std::fmt::Write as _;

use super::goal::{Cell, Row};

/// One goal: what was done and is to be reached, then a line for each gateway.
#[must_use]
pub fn row(row: &Row) -> String {
    let mut text = format!("{:<4} {}\n     to reach: {}\n", row.goal, row.done, row.reach);
    let mut line = |name: &str, cell: &Cell| {
        let _ = match cell {
            Cell::Measured { figure, met } => {
                let verdict = if *met { "yes" } else { "NO" };
                writeln!(text, "     {name:<9} {verdict:<4} {figure}")
            }
            Cell::NotMeasured(why) => writeln!(text, "     {name:<9} -    {why}"),
        };
    };
    line("diolkos", &row.ours);
    for (peer, cell) in &row.theirs {
        line(peer.name(), cell);
    }
    text
}

/// What it comes to.
#[must_use]
pub fn summary(rows: &[Row]) -> String {
    let measured = rows.iter().filter(|row| matches!(row.ours, Cell::Measured { .. })).count();
    let missed: Vec<&str> = rows.iter().filter(|r| r.is_missed()).map(|r| r.goal).collect();
    let mut text = format!("{} of {measured} measured goals reached", measured - missed.len());
    if !missed.is_empty() {
        let _ = write!(text, "; missed: {}", missed.join(", "));
    }
    let not = rows.len() - measured;
    if not > 0 {
        let _ = write!(text, "; {not} not measured here, the reason beside each");
    }
    text + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::compare::Peer;

    #[test]
    fn a_row_says_what_was_measured_and_what_was_not() {
        let one = |ours| Row {
            goal: "G5",
            done: "resets",
            reach: "all",
            ours,
            theirs: vec![(Peer::Nginx, Cell::not("not installed"))],
        };
        let text = row(&one(Cell::measured(true, "6/6")));
        assert_eq!(
            text,
            "G5   resets\n     to reach: all\n     diolkos   yes  6/6\n     nginx     -    not \
             installed\n"
        );
        let rows = [one(Cell::measured(true, "")), one(Cell::measured(false, "5/6"))];
        assert!(rows[1].is_missed() && row(&rows[1]).contains("NO   5/6"));
        assert_eq!(summary(&rows), "1 of 2 measured goals reached; missed: G5\n");
        let none = summary(&[one(Cell::not("no root"))]);
        assert!(none.starts_with("0 of 0") && none.contains("1 not measured"), "{none}");
    }
}
