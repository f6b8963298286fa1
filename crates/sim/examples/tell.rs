//! Runs one story, from a seed or from a file with what `soak` prints, and tells what happened: the acts, all facts in
//! the order of their time, and what was broken.

#![allow(clippy::print_stdout, reason = "it is a program")]

use ostler_sim::Story;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let what = std::env::args().nth(1).ok_or("which story? Give a seed, or the path of a file")?;
    let story: Story = match what.parse() {
        Ok(seed) => Story::draw(seed),
        Err(_) => serde_json::from_str(&std::fs::read_to_string(&what)?)?,
    };
    for planned in &story.acts {
        println!("{} {}", planned.at, serde_json::to_string(&planned.act)?);
    }
    let world = story.play(None);
    for line in world.tale() {
        println!("{line}");
    }
    for violation in world.violations() {
        println!("{violation}");
    }
    Ok(())
}
