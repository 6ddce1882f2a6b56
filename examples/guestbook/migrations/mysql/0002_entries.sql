CREATE TABLE entries (
    id BIGINT PRIMARY KEY AUTO_INCREMENT,
    person_id BIGINT NOT NULL,
    text TEXT NOT NULL,
    picture VARCHAR(80),
    hidden TINYINT NOT NULL DEFAULT 0,
    created_at VARCHAR(19) NOT NULL,
    INDEX entries_shown (hidden, id),
    FOREIGN KEY (person_id) REFERENCES people (id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
