output "ipv4_address" {
  description = "For the A records of DOMAIN and staff.DOMAIN."
  value       = hcloud_server.bakery.ipv4_address
}

output "ipv6_address" {
  description = "For their AAAA records."
  value       = hcloud_server.bakery.ipv6_address
}

output "front" {
  description = "Where customers are, once the names lead there."
  value       = "https://${var.domain}"
}

output "back" {
  description = "Where staff is."
  value       = "https://staff.${var.domain}"
}

output "ssh" {
  description = "How to get there, into the folder of compose.yaml."
  value       = "ssh -t deploy@${hcloud_server.bakery.ipv4_address} 'cd /srv/bakery && exec bash -l'"
}
