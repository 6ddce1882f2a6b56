CREATE TABLE people (
    id BIGINT PRIMARY KEY AUTO_INCREMENT,
    name VARCHAR(40) NOT NULL,
    -- As names are compared: one person cannot pass for another by a capital letter.
    folded VARCHAR(120) NOT NULL UNIQUE,
    password VARCHAR(200) NOT NULL,
    is_admin TINYINT NOT NULL DEFAULT 0,
    created_at VARCHAR(19) NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
