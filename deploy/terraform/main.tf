# One small machine that runs deploy/bakery/compose.yaml. What changes later, images and files, goes there by SSH.

locals {
  everybody = ["0.0.0.0/0", "::/0"]
  files     = "${path.module}/../bakery"
  settings  = <<-EOT
    DOMAIN=${var.domain}
    ACME_EMAIL=${var.acme_email}
    SANDBOX=${var.sandbox ? "--sandbox" : ""}
    ORDERUP_IMAGE=${var.orderup_image}
  EOT
}

resource "hcloud_ssh_key" "admin" {
  name       = "bakery"
  public_key = var.ssh_public_key
}

resource "hcloud_firewall" "bakery" {
  name = "bakery"

  rule {
    description = "SSH"
    direction   = "in"
    protocol    = "tcp"
    port        = "22"
    source_ips  = var.admin_networks
  }

  rule {
    description = "HTTP: certificates are asked for by it, and everything else is led to HTTPS"
    direction   = "in"
    protocol    = "tcp"
    port        = "80"
    source_ips  = local.everybody
  }

  rule {
    description = "HTTPS"
    direction   = "in"
    protocol    = "tcp"
    port        = "443"
    source_ips  = local.everybody
  }

  rule {
    description = "HTTP/3"
    direction   = "in"
    protocol    = "udp"
    port        = "443"
    source_ips  = local.everybody
  }

  rule {
    description = "ping, and what IP itself needs"
    direction   = "in"
    protocol    = "icmp"
    source_ips  = local.everybody
  }
}

resource "hcloud_server" "bakery" {
  name         = "bakery"
  image        = "ubuntu-24.04"
  server_type  = var.server_type
  location     = var.location
  ssh_keys     = [hcloud_ssh_key.admin.id]
  firewall_ids = [hcloud_firewall.bakery.id]

  # The database is on its disk. Besides, each update dumps it into /srv/bakery/backups.
  backups            = true
  delete_protection  = true
  rebuild_protection = true

  # Secrets are made up on the machine, by make-secrets: none passes through here, or through Terraform's state.
  user_data = templatefile("${path.module}/cloud-init.yaml.tftpl", {
    ssh_public_key = var.ssh_public_key
    files = {
      "compose.yaml" = { content = filebase64("${local.files}/compose.yaml"), mode = "0644" }
      "Caddyfile"    = { content = filebase64("${local.files}/Caddyfile"), mode = "0644" }
      "make-secrets" = { content = filebase64("${local.files}/make-secrets"), mode = "0755" }
      "update"       = { content = filebase64("${local.files}/update"), mode = "0755" }
      ".env"         = { content = base64encode(local.settings), mode = "0600" }
    }
  })

  public_net {
    ipv4_enabled = true
    ipv6_enabled = true
  }

  lifecycle {
    # They count once, when the machine is made: a change of theirs would make another one, without the database.
    ignore_changes = [user_data, image, ssh_keys]
  }
}
