-- Run at the first start, and again by every instance: each statement leaves alone what is there already.
create table if not exists books (
    id integer primary key,
    title text not null,
    author text not null,
    year integer not null,
    blurb text not null,
    price_cents integer not null check (price_cents >= 0),
    stock integer not null check (stock >= 0)
);

create table if not exists orders (
    id text not null,
    book_id integer not null references books (id),
    session text not null,
    quantity integer not null check (quantity > 0),
    price_cents integer not null,
    created_at timestamptz not null default now(),
    primary key (id, book_id)
);

create index if not exists orders_by_session on orders (session, created_at desc);

insert into books (id, title, author, year, blurb, price_cents, stock) values
    (1, 'Black Beauty', 'Anna Sewell', 1877, 'A horse tells his own life, and makes a case for kindness to those who carry us.', 990, 1000),
    (2, 'Frankenstein', 'Mary Shelley', 1818, 'A student makes a living being, and leaves it alone. It does not forget.', 1190, 1000),
    (3, 'Pride and Prejudice', 'Jane Austen', 1813, 'Two proud people get each other thoroughly wrong, and then slowly right.', 890, 1000),
    (4, 'Moby-Dick', 'Herman Melville', 1851, 'A captain, a whale, and everything that can be known about both.', 1490, 1000),
    (5, 'Twenty Thousand Leagues Under the Seas', 'Jules Verne', 1870, 'A guided tour of the oceans, by a host who lets nobody leave.', 1290, 1000),
    (6, 'The Time Machine', 'H. G. Wells', 1895, 'Dinner guests hear what becomes of mankind in eight hundred thousand years.', 790, 1000),
    (7, 'Middlemarch', 'George Eliot', 1871, 'A whole town, its marriages, its reforms, and what people owe each other.', 1590, 1000),
    (8, 'The Count of Monte Cristo', 'Alexandre Dumas', 1844, 'An innocent sailor escapes from prison, finds a treasure, and takes his time.', 1690, 1000),
    (9, 'Alice''s Adventures in Wonderland', 'Lewis Carroll', 1865, 'Down a rabbit-hole, where logic is taken at its word.', 850, 1000),
    (10, 'The Hound of the Baskervilles', 'Arthur Conan Doyle', 1902, 'A family curse on the moor, and a detective who does not believe in curses.', 990, 1000),
    (11, 'Faust', 'Johann Wolfgang von Goethe', 1808, 'A scholar who has read everything signs a contract without an exit clause.', 1090, 1000),
    (12, 'Gulliver''s Travels', 'Jonathan Swift', 1726, 'Small people, big people, and wise horses. The last three copies of an old printing.', 4900, 3)
on conflict (id) do nothing;
